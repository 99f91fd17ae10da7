package runtime_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/rowlock-io/rowlock/agents/node/fakecri"
	"github.com/rowlock-io/rowlock/agents/node/runtime"
)

func options(t *testing.T) runtime.Options {
	return runtime.Options{Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Answer: 2 * time.Second}
}

func dial(t *testing.T, fake *fakecri.Runtime, o runtime.Options) *runtime.Runtime {
	t.Helper()
	r, err := runtime.Dial(t.Context(), fake.Endpoint(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close(context.WithoutCancel(t.Context())) })
	return r
}

func TestDial(t *testing.T) {
	t.Parallel()
	systemd := fakecri.CRIO()
	driver := runtimeapi.CgroupDriver_SYSTEMD
	systemd.CgroupDriver = &driver
	for _, tc := range []struct {
		name     string
		profile  fakecri.Profile
		fallback string // for runtimes that do not tell their cgroup driver
		want     string // the driver
		string   string
	}{
		{name: "containerd", profile: fakecri.Containerd(), fallback: runtime.Systemd, want: runtime.Cgroupfs, string: "containerd://v2.4.2"},
		{name: "cri-o", profile: fakecri.CRIO(), want: runtime.Cgroupfs, string: "cri-o://1.34.0"},
		{name: "systemd", profile: systemd, want: runtime.Systemd, string: "cri-o://1.34.0"},
		// RuntimeConfig is not there.
		{name: "old", profile: fakecri.OldContainerd(), want: runtime.Cgroupfs, string: "containerd://1.6.20~ds1"},
		{name: "old, as set", profile: fakecri.OldContainerd(), fallback: runtime.Systemd, want: runtime.Systemd, string: "containerd://1.6.20~ds1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			o := options(t)
			o.CgroupDriver = tc.fallback
			r := dial(t, fakecri.Start(t, tc.profile), o)
			if got := r.CgroupDriver(); got != tc.want {
				t.Errorf("the cgroup driver is %s, want %s", got, tc.want)
			}
			if got := r.String(); got != tc.string {
				t.Errorf("it is %s, want %s", got, tc.string)
			}
			if _, err := r.Images().ListImages(t.Context(), nil); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDialErrors(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "dial") //nolint:usetesting // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	mute, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join(dir, "mute")) // connections wait to be accepted
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close() //nolint:errcheck // a test's
	old := fakecri.Containerd()
	old.Old, old.Version = true, "1.5.18"
	left, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join(dir, "left"))
	if err != nil {
		t.Fatal(err)
	}
	left.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = left.Close()
	hangs := fakecri.Start(t, fakecri.Containerd())
	hangs.Fail(fakecri.Fault{Hang: true})
	strange := fakecri.Start(t, fakecri.Containerd())
	strange.Fail(fakecri.Fault{Method: "Version", Err: errors.New("a strange thing")})
	for _, tc := range []struct {
		name, endpoint string
		is             error // nil: none of ours
		want           string
	}{
		{"no socket", "unix://" + filepath.Join(dir, "none"), runtime.ErrMissing, "is it installed and running?"},
		{"a file", "unix://" + file, nil, "is not a socket"},
		{"tcp", "tcp://localhost:1234", nil, "only support unix socket endpoint"},
		{"nobody listens", "unix://" + filepath.Join(dir, "left"), runtime.ErrMissing, "nobody listens"},
		{"mute", "unix://" + filepath.Join(dir, "mute"), runtime.ErrHangs, "within 300ms"},
		{"hangs", hangs.Endpoint(), runtime.ErrHangs, "within 300ms"},
		{"old", fakecri.Start(t, old).Endpoint(), runtime.ErrOld, "containerd 1.5.18 at "},
		{"old", fakecri.Start(t, old).Endpoint(), runtime.ErrOld, " speaks v1alpha2 only; containerd has v1 since 1.6"},
		{"none", none(t), runtime.ErrOld, "has no CRI; that of containerd is a plug-in"},
		{"strange", strange.Endpoint(), nil, "a strange thing"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := options(t)
			o.Answer = 300 * time.Millisecond
			_, err := runtime.Dial(t.Context(), tc.endpoint, o)
			if err == nil || !strings.Contains(err.Error(), tc.want) || tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("%v, want %v with %q", err, tc.is, tc.want)
			}
		})
	}
}

func TestDialWaits(t *testing.T) {
	t.Parallel()
	fake := fakecri.Start(t, fakecri.Containerd())
	fake.Stop()
	o := options(t)
	o.Wait = time.Minute
	began := make(chan struct{})
	go func() {
		<-began
		time.Sleep(50 * time.Millisecond)
		fake.Start()
	}()
	close(began)
	dial(t, fake, o)
}

// TestConditions: what a runtime says besides, as that cgroup v1 is deprecated, does not make a node not ready.
func TestConditions(t *testing.T) {
	t.Parallel()
	fake := fakecri.Start(t, fakecri.Containerd())
	r := dial(t, fake, options(t))
	c := r.Conditions(t.Context())
	if err := errors.Join(c.RuntimeErr(), c.NetworkErr()); err != nil {
		t.Errorf("in order: %v, want no error", err)
	}
	if len(c.Others) != 1 || c.Others[0].Type != "ContainerdHasNoDeprecationWarnings" || c.Others[0].Status {
		t.Errorf("other conditions are %v, want the one about deprecations", c.Others)
	}
	fake.SetCondition(runtimeapi.NetworkReady, false, "NetworkPluginNotReady", "cni plugin not initialized")
	c = r.Conditions(t.Context())
	want := "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:cni plugin not initialized"
	if err := c.NetworkErr(); err == nil || err.Error() != want || c.RuntimeErr() != nil {
		t.Errorf("without a network: %v and %v, want %s", err, c.RuntimeErr(), want)
	}
	fake.SetCondition(runtimeapi.RuntimeReady, false, "Broken", "it is")
	if err := r.Conditions(t.Context()).RuntimeErr(); err == nil || err.Error() != "container runtime not ready: RuntimeReady=false reason:Broken message:it is" {
		t.Errorf("not ready: %v", err)
	}
	fake.Stop()
	if err := r.Conditions(t.Context()).RuntimeErr(); err == nil || err.Error() != "container runtime is down" {
		t.Errorf("stopped: %v", err)
	}
}

// TestUpgrade: a runtime may come back as another version that can more.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	fake := fakecri.Start(t, fakecri.Containerd())
	fake.SetHandlers(&runtimeapi.RuntimeHandler{})
	r := dial(t, fake, options(t))
	if h, known := r.Handler(""); !known || h.UserNamespaces {
		t.Errorf("the default handler is %v (%v), want one that can nothing", h, known)
	}
	fake.Stop()
	fake.Profile.Version = "v3.0.0"
	fake.SetHandlers(&runtimeapi.RuntimeHandler{Name: "kata"}, &runtimeapi.RuntimeHandler{Features: &runtimeapi.RuntimeHandlerFeatures{UserNamespaces: true}})
	fake.Start()
	for r.Conditions(t.Context()).Down != nil { // until the connection is there again
		time.Sleep(time.Millisecond)
	}
	if got := r.Version(); got != "v3.0.0" {
		t.Errorf("the version is %s, want v3.0.0", got)
	}
	if diff := cmp.Diff([]runtime.Handler{{UserNamespaces: true}, {Name: "kata"}}, r.Handlers()); diff != "" {
		t.Error(diff)
	}
	if _, known := r.Handler("gvisor"); known {
		t.Error("it knows a handler that is not there")
	}
}

// none is where something listens that speaks gRPC, but not of containers.
func none(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "none") //nolint:usetesting // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "sock")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server, done := grpc.NewServer(), make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // until it is stopped
	}()
	t.Cleanup(func() {
		server.Stop()
		<-done
		_ = os.RemoveAll(dir)
	})
	return "unix://" + socket
}

func TestFind(t *testing.T) {
	t.Parallel()
	fake := fakecri.Start(t, fakecri.Containerd())
	if got := runtime.Find("/", []string{"/does/not/exist", fake.Socket(), "/"}); !slices.Equal(got, []string{fake.Endpoint()}) {
		t.Errorf("found %q, want %q", got, fake.Endpoint())
	}
	if got := runtime.Find(filepath.Dir(fake.Socket()), []string{filepath.Base(fake.Socket())}); !slices.Equal(got, []string{fake.Endpoint()}) {
		t.Errorf("found %q below its directory, want %q", got, fake.Endpoint())
	}
}
