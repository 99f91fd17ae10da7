package gc_test

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubetypes "k8s.io/kubelet/pkg/types"

	"github.com/rowlock-io/rowlock/agents/node/cri"
	"github.com/rowlock-io/rowlock/agents/node/fakecri"
	"github.com/rowlock-io/rowlock/agents/node/gc"
	"github.com/rowlock-io/rowlock/agents/node/runtime"
)

type pods struct {
	unknown    bool
	gone, over []types.UID
}

func (p *pods) Known() bool            { return !p.unknown }
func (p *pods) Gone(id types.UID) bool { return slices.Contains(p.gone, id) }
func (p *pods) Over(id types.UID) bool { return slices.Contains(p.over, id) }

// rig is a collector of a fake runtime's garbage.
type rig struct {
	*gc.Collector
	fake     *fakecri.Runtime
	runtime  *runtime.Runtime
	pods     *pods
	logs     string
	recorder *record.FakeRecorder
}

func start(t *testing.T, tune func(*gc.Config)) *rig {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	r := &rig{fake: fakecri.Start(t, fakecri.Containerd()), pods: &pods{}, logs: t.TempDir(), recorder: record.NewFakeRecorder(10)}
	var err error
	if r.runtime, err = runtime.Dial(t.Context(), r.fake.Endpoint(), runtime.Options{Log: log}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.runtime.Close(context.WithoutCancel(t.Context())) })
	c := gc.Config{
		Log: log, Runtime: r.runtime.Service(), Images: r.runtime.Images(), Pods: r.pods, PodLogs: r.logs, Recorder: r.recorder, Node: &corev1.Node{},
		Reports: func() []*cri.Report {
			report := &cri.Report{}
			for _, s := range r.fake.Containers() {
				report.Containers = append(report.Containers, cri.Reported{ContainerStatus: s})
			}
			return []*cri.Report{report}
		},
	}
	c.Containers, c.Image, c.Logs = gc.Defaults()
	if tune != nil {
		tune(&c)
	}
	if r.Collector, err = gc.New(c); err != nil {
		t.Fatal(err)
	}
	return r
}

// run makes a pod with so many attempts of a container, each of which ends, but for the last one.
func (r *rig) run(t *testing.T, id string, attempts int, image string, mounts ...*runtimeapi.Mount) (sandbox string, containers []string) {
	t.Helper()
	r.fake.AddImages(image)
	labels := map[string]string{kubetypes.KubernetesPodUIDLabel: id}
	pod := &runtimeapi.PodSandboxConfig{
		Metadata: &runtimeapi.PodSandboxMetadata{Name: id, Namespace: "default", Uid: id}, Labels: labels,
		LogDirectory: filepath.Join(r.logs, "default_"+id+"_"+id),
	}
	s := r.runtime.Service()
	sandbox, err := s.RunPodSandbox(t.Context(), pod, "")
	if err != nil {
		t.Fatal(err)
	}
	for n := range attempts {
		config := &runtimeapi.ContainerConfig{
			Metadata: &runtimeapi.ContainerMetadata{Name: "main", Attempt: uint32(n)}, Image: &runtimeapi.ImageSpec{Image: image, UserSpecifiedImage: image}, Labels: labels,
			LogPath: "main/" + string(rune('0'+n)) + ".log", Mounts: mounts,
		}
		c, err := s.CreateContainer(t.Context(), sandbox, config, pod)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.StartContainer(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		r.fake.Write(c, "stdout", "hello")
		if n < attempts-1 {
			r.fake.Exit(c, 1, "")
		}
		containers = append(containers, c)
	}
	return sandbox, containers
}

// files are those below a directory.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	if err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			all = append(all, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestContainers(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	_, web := r.run(t, "web", 4, "busybox")
	batch, ended := r.run(t, "batch", 3, "busybox")
	gone, _ := r.run(t, "gone", 2, "busybox")
	r.fake.KillSandbox(batch)
	r.fake.KillSandbox(gone)
	r.pods.gone, r.pods.over = []types.UID{"gone"}, []types.UID{"batch"}
	if err := os.MkdirAll(filepath.Join(r.logs, "not-a-pods"), 0o755); err != nil {
		t.Fatal(err)
	}
	remain := func() (ids []string) {
		for _, c := range r.fake.Containers() {
			ids = append(ids, c.Id)
		}
		slices.Sort(ids)
		return ids
	}
	collect := func(what string, do func(context.Context) error, want ...string) {
		t.Helper()
		if err := do(t.Context()); err != nil {
			t.Fatal(err)
		}
		slices.Sort(want)
		if diff := cmp.Diff(want, remain()); diff != "" {
			t.Errorf("%s:\n%s", what, diff)
		}
	}
	r.pods.unknown = true
	collect("not all pods are known", r.CollectContainers, append(r.newest(t, "gone", 1), web[2], web[3], ended[2])...)
	r.pods.unknown = false
	collect("usual", r.CollectContainers, web[2], web[3], ended[2])
	if got := r.sandboxes(); !slices.Equal(got, []string{"batch", "web"}) {
		t.Errorf("sandboxes of %v are there, want those of batch and web", got)
	}
	want := []string{"default_batch_batch/main/2.log", "default_web_web/main/2.log", "default_web_web/main/3.log"}
	if diff := cmp.Diff(want, files(t, r.logs)); diff != "" {
		t.Errorf("logs:\n%s", diff)
	}
	if _, err := os.Stat(filepath.Join(r.logs, "not-a-pods")); err != nil {
		t.Error(err)
	}
	collect("the disk is full", r.RemoveUnusedContainers, web[2], web[3])
	if got := r.sandboxes(); !slices.Equal(got, []string{"web"}) {
		t.Errorf("sandboxes of %v are there, want that of web", got)
	}
}

// newest are the ids of a pod's newest containers.
func (r *rig) newest(t *testing.T, pod string, n int) (ids []string) {
	t.Helper()
	for _, c := range r.fake.Containers() {
		if c.Labels[kubetypes.KubernetesPodUIDLabel] == pod && len(ids) < n {
			ids = append(ids, c.Id)
		}
	}
	return ids
}

func (r *rig) sandboxes() (pods []string) {
	for _, s := range r.fake.Sandboxes() {
		pods = append(pods, s.Metadata.Uid)
	}
	slices.Sort(pods)
	return pods
}

// TestLinks: those to logs of containers that are gone go, but not one whose log is away only while it is rotated.
func TestLinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := start(t, func(c *gc.Config) { c.Links = dir })
	_, ids := r.run(t, "web", 2, "busybox")
	for name, to := range map[string]string{
		"web_default_main-" + ids[0] + ".log": filepath.Join(r.logs, "default_web_web/main/0.log"), // it is there
		"web_default_main-" + ids[1] + ".log": "/does/not/exist", "old_default_main-0123.log": "/does/not/exist", "other": "/does/not/exist",
	} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	collect := func(want ...string) {
		t.Helper()
		if err := r.CollectContainers(t.Context()); err != nil {
			t.Fatal(err)
		}
		slices.Sort(want)
		if diff := cmp.Diff(want, files(t, dir)); diff != "" {
			t.Error(diff)
		}
	}
	collect("other", "web_default_main-"+ids[0]+".log", "web_default_main-"+ids[1]+".log")
	r.fake.Exit(ids[1], 0, "")
	collect("other") // the older one was removed, and its log with it
}

// TestOneFails: what cannot be removed does not keep the rest.
func TestOneFails(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *gc.Config) { c.Containers.MaxPerContainer = 0 })
	_, ids := r.run(t, "web", 3, "busybox")
	r.fake.Fail(fakecri.Fault{Method: "RemoveContainer", Err: errors.New("busy"), Times: 1})
	if err := r.CollectContainers(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := r.fake.Containers(); len(got) != 2 || got[1].Id != ids[0] {
		t.Errorf("%d containers are left, want the one that runs and the one that could not be removed", len(got))
	}
	if err := r.CollectContainers(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := r.fake.Containers(); len(got) != 1 {
		t.Errorf("%d containers are left, want the one that runs", len(got))
	}
	r.fake.SetState(ids[2], runtimeapi.ContainerState_CONTAINER_UNKNOWN)
	r.fake.ForgetCalls()
	if err := r.CollectContainers(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(r.fake.Calls("StopContainer")) != 1 || len(r.fake.Containers()) != 0 {
		t.Errorf("one of which nobody knows whether it runs: %d stops, %d are left, want 1 and none", len(r.fake.Calls("StopContainer")), len(r.fake.Containers()))
	}
}

func TestImages(t *testing.T) {
	t.Parallel()
	var capacity, available uint64 = 100 << 20, 50 << 20
	var left []string
	r := start(t, func(c *gc.Config) {
		c.Image.MinAge = 0
		c.ImagesRemoved = func(_ context.Context, ids []string, listed time.Time) {
			if listed.IsZero() || time.Since(listed) > time.Minute {
				t.Errorf("images were listed at %v", listed)
			}
			left = append(left, strconv.Itoa(len(ids)))
		}
		c.Usage = func(string) (uint64, uint64, error) { return capacity, available, nil }
	})
	mounted := fakecri.Image("mounted")
	r.fake.AddImage(mounted)
	r.run(t, "web", 1, "busybox", &runtimeapi.Mount{ContainerPath: "/data", Image: &runtimeapi.ImageSpec{Image: mounted.Id}})
	pinned := fakecri.Image("pause")
	pinned.Pinned = true
	r.fake.AddImage(pinned)
	names := func() (all []string) {
		for _, i := range r.fake.Images() {
			name, _, _ := strings.Cut(strings.TrimPrefix(i.RepoTags[0], "docker.io/library/"), ":")
			all = append(all, name)
		}
		slices.Sort(all)
		return all
	}
	kept := []string{"busybox", "mounted", "pause"}
	r.fake.AddImages("first")
	collect := func(what string, fails bool, more ...string) {
		t.Helper()
		err := r.CollectImages(t.Context())
		if (err != nil) != fails {
			t.Errorf("%s: %v, want an error: %v", what, err, fails)
		}
		want := append(slices.Clone(kept), more...)
		slices.Sort(want)
		if diff := cmp.Diff(want, names()); diff != "" {
			t.Errorf("%s:\n%s", what, diff)
		}
	}
	collect("there is space", false, "first")
	r.fake.AddImages("second", "third")
	collect("there is still space", false, "first", "second", "third")
	available = 18<<20 + 1<<19 // half a megabyte and one short of 20
	capacity = 100 << 20
	collect("82 % are used", false, "first", "second", "third")
	capacity, available = 10<<20, 1<<20 // 90 %: one megabyte, an image, is to be freed
	collect("90 % are used", false, "second", "third")
	available = 0 // two
	collect("all is used", false)
	collect("nothing is left to free", true)
	want := "Warning FreeDiskSpaceFailed Insufficient free disk space on the node's image filesystem (100% of 10.0 MiB used). " +
		"Failed to free sufficient space by deleting unused images (freed 0 bytes). " +
		"Investigate disk usage, as it could be used by active images, logs, volumes, or other data."
	if got := <-r.recorder.Events; got != want {
		t.Errorf("the event is %q, want %q", got, want)
	}
	capacity = 0
	collect("no disk", true)
	if got := <-r.recorder.Events; got != "Warning InvalidDiskCapacity invalid capacity 0 on image filesystem" {
		t.Errorf("the event is %q", got)
	}
	r.fake.AddImages("unused")
	if err := r.RemoveUnusedImages(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(kept, names()); diff != "" {
		t.Errorf("all that are not used:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"5", "3", "3"}, left); diff != "" { // and nothing where none were removed
		t.Errorf("how many were left each time that some were removed:\n%s", diff)
	}
}

// TestYoungImages: one that was just pulled may be for a container to come.
func TestYoungImages(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *gc.Config) {
		c.Usage = func(string) (uint64, uint64, error) { return 10 << 20, 0, nil }
	})
	r.fake.AddImages("busybox")
	if err := r.CollectImages(t.Context()); err == nil || len(r.fake.Images()) != 1 {
		t.Errorf("%v; %d images, want an error and the image", err, len(r.fake.Images()))
	}
}

func TestOldImages(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *gc.Config) {
		c.Image.MaxAge = time.Nanosecond
		c.Usage = func(string) (uint64, uint64, error) { return 100, 100, nil }
	})
	r.fake.AddImages("unused")
	r.run(t, "web", 1, "busybox")
	for range 2 { // it is seen, and then it is old
		if err := r.CollectImages(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	if got := r.fake.Images(); len(got) != 1 || got[0].RepoTags[0] != "docker.io/library/busybox:latest" {
		t.Errorf("images %v are left, want the one that is used", got)
	}
}

func TestRotate(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *gc.Config) { c.Logs = gc.LogPolicy{MaxSize: 1000, MaxFiles: 3, Every: time.Hour} })
	_, ids := r.run(t, "web", 2, "busybox")
	dir := filepath.Join(r.logs, "default_web_web", "main")
	path := filepath.Join(dir, "1.log")
	r.RotateLogs(t.Context())
	if got := files(t, dir); !slices.Equal(got, []string{"0.log", "1.log"}) {
		t.Errorf("logs that are short: files are %v", got)
	}
	for _, old := range []string{".20200101-000000.gz", ".20200102-000000", ".20200103-000000", ".20200103-000000.gz", ".20200104-000000.tmp"} {
		if err := os.WriteFile(path+old, []byte(old), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	r.fake.Write(ids[1], "stdout", strings.Repeat("x", 1000))
	r.fake.Write(ids[0], "stdout", strings.Repeat("x", 1000)) // it has ended
	r.RotateLogs(t.Context())
	r.fake.Write(ids[1], "stdout", "later")
	got := files(t, dir)
	if len(got) != 4 || got[0] != "0.log" || got[1] != "1.log" || got[2] != "1.log.20200103-000000.gz" || strings.HasSuffix(got[3], ".gz") {
		t.Fatalf("files are %v, want the log, the last one before, and the one that was rotated now", got)
	}
	data, err := os.ReadFile(path)
	if err != nil || strings.Contains(string(data), "x") || !strings.Contains(string(data), "later") {
		t.Errorf("the log holds %q (%v), want what was written later", data, err)
	}
	if calls := r.fake.Calls("ReopenContainerLog", "ListContainers", "ContainerStatus"); len(calls) != 1 {
		t.Errorf("the runtime was asked %d times, want to reopen one log", len(calls))
	}
	first := filepath.Join(dir, got[3])
	older := strings.TrimSuffix(first, filepath.Ext(first)) + ".20240101-000000" // the second of the next rotation may be this one
	if err := os.Rename(first, older); err != nil {
		t.Fatal(err)
	}
	r.fake.Write(ids[1], "stdout", strings.Repeat("y", 1000))
	r.RotateLogs(t.Context())
	f, err := os.Open(older + ".gz")
	if err != nil {
		t.Fatalf("%v; files are %v", err, files(t, dir))
	}
	defer f.Close() //nolint:errcheck // it was only read
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if data, err := io.ReadAll(z); err != nil || !strings.Contains(string(data), "xxx") {
		t.Errorf("the compressed log holds %d bytes, %v", len(data), err)
	}
}

// TestRotateFails: when the runtime does not open the log anew it goes on writing where it did.
func TestRotateFails(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *gc.Config) { c.Logs.MaxSize = 10 })
	r.run(t, "web", 1, "busybox")
	dir := filepath.Join(r.logs, "default_web_web", "main")
	heal := r.fake.Fail(fakecri.Fault{Method: "ReopenContainerLog", Err: errors.New("no")})
	r.RotateLogs(t.Context())
	if got := files(t, dir); !slices.Equal(got, []string{"0.log"}) {
		t.Errorf("files are %v, want the log", got)
	}
	heal()
	if err := os.Remove(filepath.Join(dir, "0.log")); err != nil {
		t.Fatal(err)
	}
	r.RotateLogs(t.Context())
	if got := files(t, dir); !slices.Equal(got, []string{"0.log"}) {
		t.Errorf("when somebody had removed it files are %v, want the log", got)
	}
	if err := os.Remove(filepath.Join(dir, "0.log")); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(strings.Repeat("s", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, filepath.Join(dir, "0.log")); err != nil {
		t.Fatal(err)
	}
	r.fake.ForgetCalls()
	r.RotateLogs(t.Context())
	if got := files(t, dir); !slices.Equal(got, []string{"0.log"}) || len(r.fake.Calls("ReopenContainerLog")) != 0 {
		t.Errorf("a symbolic link in its place was rotated: %v", got)
	}
}

func TestPolicies(t *testing.T) {
	t.Parallel()
	for want, tune := range map[string]func(*gc.Config){
		"invalid minimum garbage collection age: -1ns":                          func(c *gc.Config) { c.Containers.MinAge = -1 },
		"invalid HighThresholdPercent 101, must be in range [0-100]":            func(c *gc.Config) { c.Image.High = 101 },
		"invalid LowThresholdPercent -1, must be in range [0-100]":              func(c *gc.Config) { c.Image.Low = -1 },
		"LowThresholdPercent 90 can not be higher than HighThresholdPercent 85": func(c *gc.Config) { c.Image.Low = 90 },
		"invalid MaxFiles 1, must be > 1":                                       func(c *gc.Config) { c.Logs.MaxFiles = 1 },
	} {
		var c gc.Config
		c.Containers, c.Image, c.Logs = gc.Defaults()
		tune(&c)
		if _, err := gc.New(c); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestRun: what fails is told as an event, of images only the second time.
func TestRun(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	r.fake.Fail(fakecri.Fault{Method: "ListContainers", Err: errors.New("no list")})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	if got := <-r.recorder.Events; !strings.HasPrefix(got, "Warning ContainerGCFailed") || !strings.Contains(got, "no list") {
		t.Errorf("the event is %q, want ContainerGCFailed", got)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if len(r.recorder.Events) != 0 {
		t.Errorf("there is another event: %s", <-r.recorder.Events)
	}
}
