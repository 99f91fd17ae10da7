// Package fakecri is a container runtime for tests: the CRI over real gRPC on a unix socket, with nothing behind it but memory. Pods,
// containers, images and their states are kept as runtimes keep them; what becomes of a container is scripted (Life), what goes wrong
// is too (Fault). It differs as runtimes were seen to differ (Profile).
package fakecri

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Events is how a runtime answers who asks for its events.
type Events int

// Answers to GetContainerEvents.
const (
	EventsStream        Events = iota // they come
	EventsEnd                         // the stream ends at once
	EventsUnimplemented               // there is no such method
)

// Profile is which runtime it behaves like, where they differ.
type Profile struct {
	Name, Version string
	// Old: it speaks v1alpha2 of the CRI only, as runtimes did before.
	Old bool
	// CgroupDriver is what RuntimeConfig says; nil: there is no such method.
	CgroupDriver *runtimeapi.CgroupDriver
	Events       Events
	// StrictPID: a container's PID namespace must be asked for as its pod's was.
	StrictPID bool
	// WantsUserImage: a container's image has to be said as the user did, too.
	WantsUserImage bool
	// PullsDigests: PullImage answers with a digest of the repository, which is not the image's id.
	PullsDigests bool
	// PlainIDs: ids of images do not say of which algorithm they are.
	PlainIDs bool
	// ForgetsFailedStarts: a container that could not be started is gone.
	ForgetsFailedStarts bool
	// ExecTimeoutIsExit: a process that takes too long in ExecSync has ended with -1, and that is no error.
	ExecTimeoutIsExit bool
	// LoopbackFirst: the first of a pod's network interfaces, and so the default one of its statistics, is lo.
	LoopbackFirst bool
	// Zone ends the stamps of log lines.
	Zone string
	// Conditions are those besides RuntimeReady and NetworkReady.
	Conditions []*runtimeapi.RuntimeCondition
	// PodStats: statistics and metrics of pods are there.
	PodStats bool
	// Leftovers: sandboxes without a parent of their cgroup leave one behind.
	Leftovers bool
}

// Containerd is containerd 2.4.
func Containerd() Profile {
	driver := runtimeapi.CgroupDriver_CGROUPFS
	return Profile{
		Name: "containerd", Version: "v2.4.2", CgroupDriver: &driver, Zone: "Z", PodStats: true,
		Conditions: []*runtimeapi.RuntimeCondition{{
			Type: "ContainerdHasNoDeprecationWarnings", Reason: "ContainerdHasDeprecationWarnings",
			Message: `{"io.containerd.deprecation/cgroup-v1":"cgroup v1 support is deprecated and will be removed no later than May 2029"}`,
		}},
	}
}

// OldContainerd is containerd 1.6.
func OldContainerd() Profile {
	return Profile{Name: "containerd", Version: "1.6.20~ds1", Events: EventsUnimplemented, Zone: "Z"}
}

// CRIO is CRI-O 1.34.
func CRIO() Profile {
	driver := runtimeapi.CgroupDriver_CGROUPFS
	return Profile{
		Name: "cri-o", Version: "1.34.0", CgroupDriver: &driver, Events: EventsEnd, StrictPID: true, WantsUserImage: true, PullsDigests: true, PlainIDs: true,
		ForgetsFailedStarts: true, ExecTimeoutIsExit: true, LoopbackFirst: true, Zone: "+00:00", PodStats: true, Leftovers: true,
	}
}

// Runtime is one. Its state outlives Stop and Start, as that of real ones outlives theirs.
type Runtime struct {
	Profile Profile

	t      testing.TB
	socket string

	mu         sync.Mutex
	server     *grpc.Server // nil: stopped
	serving    chan struct{}
	streaming  *streaming
	forward    func(ctx context.Context, sandbox string, port int32, stream io.ReadWriteCloser) error
	n          int // ids given
	sandboxes  map[string]*sandbox
	containers map[string]*container
	images     map[string]*runtimeapi.Image // by id
	offers     map[string]Offer             // by name, with its registry
	lives      map[string][]Life            // by the container's name
	faults     []*Fault
	calls      []Call
	conditions []*runtimeapi.RuntimeCondition
	watchers   map[chan *runtimeapi.ContainerEventResponse]struct{}
	deaf       bool // events are lost
	leftovers  []string
	handlers   []*runtimeapi.RuntimeHandler
	imageFs    string // where images are said to be
}

// Start starts one that ends with the test, on a socket of its own.
func Start(t testing.TB, profile Profile) *Runtime {
	t.Helper()
	dir, err := os.MkdirTemp("", "fakecri") //nolint:usetesting // names of tests are too long for a socket's
	if err != nil {
		t.Fatal(err)
	}
	r := &Runtime{
		Profile: profile, t: t, socket: filepath.Join(dir, "cri.sock"), imageFs: dir,
		sandboxes: map[string]*sandbox{}, containers: map[string]*container{}, images: map[string]*runtimeapi.Image{},
		offers: map[string]Offer{}, lives: map[string][]Life{}, watchers: map[chan *runtimeapi.ContainerEventResponse]struct{}{},
		conditions: append([]*runtimeapi.RuntimeCondition{
			{Type: runtimeapi.RuntimeReady, Status: true}, {Type: runtimeapi.NetworkReady, Status: true},
		}, profile.Conditions...),
		handlers: []*runtimeapi.RuntimeHandler{
			{Features: &runtimeapi.RuntimeHandlerFeatures{RecursiveReadOnlyMounts: true, UserNamespaces: true}},
			{Name: "runc", Features: &runtimeapi.RuntimeHandlerFeatures{RecursiveReadOnlyMounts: true, UserNamespaces: true}},
		},
	}
	r.Start()
	t.Cleanup(func() {
		r.Stop()
		r.mu.Lock()
		for _, c := range r.containers {
			c.cancel()
		}
		s := r.streaming
		r.mu.Unlock()
		if s != nil {
			s.stop()
		}
		_ = os.RemoveAll(dir)
	})
	return r
}

// Endpoint is where it is reached.
func (r *Runtime) Endpoint() string { return "unix://" + r.socket }

// Socket is the path of its socket.
func (r *Runtime) Socket() string { return r.socket }

// Start has it answer again after Stop.
func (r *Runtime) Start() {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.server != nil {
		return
	}
	_ = os.Remove(r.socket)
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "unix", r.socket)
	if err != nil {
		r.t.Fatal(err)
	}
	server := grpc.NewServer(grpc.UnaryInterceptor(r.unary), grpc.StreamInterceptor(r.stream))
	if r.Profile.Old {
		server.RegisterService(&old, &runtimeServer{Runtime: r})
	} else {
		runtimeapi.RegisterRuntimeServiceServer(server, &runtimeServer{Runtime: r})
		runtimeapi.RegisterImageServiceServer(server, &imageServer{Runtime: r})
	}
	serving := make(chan struct{})
	go func() {
		defer close(serving)
		_ = server.Serve(listener) // it ends by Stop
	}()
	r.server, r.serving = server, serving
}

// Stop ends it as a crash does: connections break, containers go on.
func (r *Runtime) Stop() {
	r.mu.Lock()
	server, serving := r.server, r.serving
	r.server = nil
	r.mu.Unlock()
	if server != nil {
		server.Stop()
		<-serving
	}
}

// Reboot is what it finds when the machine was started anew: nothing runs.
func (r *Runtime) Reboot() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.sandboxes {
		s.ready = false
	}
	for _, c := range r.containers {
		if c.status.State == runtimeapi.ContainerState_CONTAINER_RUNNING {
			r.end(c, 255, "Unknown", "")
		}
	}
}

// SetCondition sets one of its conditions.
func (r *Runtime) SetCondition(kind string, status bool, reason, message string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	set := &runtimeapi.RuntimeCondition{Type: kind, Status: status, Reason: reason, Message: message}
	for i, c := range r.conditions {
		if c.Type == kind {
			r.conditions[i] = set
			return
		}
	}
	r.conditions = append(r.conditions, set)
}

// SetHandlers sets the runtime handlers that it says it has; the one named "" is the default.
func (r *Runtime) SetHandlers(handlers ...*runtimeapi.RuntimeHandler) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.handlers = handlers
}

// Leftovers are the cgroups that it left behind, of sandboxes that were given no parent.
func (r *Runtime) Leftovers() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.leftovers...)
}

// id is a new one, as runtimes make them.
func (r *Runtime) id() string {
	r.n++
	sum := sha256.Sum256([]byte(strconv.Itoa(r.n)))
	return hex.EncodeToString(sum[:])
}

func now() int64 { return time.Now().UnixNano() }

// runtimeServer and imageServer are the two services. They embed what says Unimplemented to all that is not there.
type runtimeServer struct {
	runtimeapi.UnimplementedRuntimeServiceServer
	*Runtime
}

type imageServer struct {
	runtimeapi.UnimplementedImageServiceServer
	*Runtime
}
