package observe

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubetypes "k8s.io/kubelet/pkg/types"
)

// stub is a runtime without sockets, for tests in which time is not real. Each pod has a container, whose state is by the pod's UID.
type stub struct {
	mu     sync.Mutex
	states map[string]runtimeapi.ContainerState
	lists  []time.Time // when it was listed
	down   bool
	hang   map[string]chan struct{} // by the pod's UID: its status is not told
	events chan *runtimeapi.ContainerEventResponse
	none   bool // it has no events
	looks  int  // at containers
}

func (s *stub) ListPodSandbox(_ context.Context, f *runtimeapi.PodSandboxFilter) ([]*runtimeapi.PodSandbox, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return nil, errors.New("down")
	}
	only := f.GetLabelSelector()[kubetypes.KubernetesPodUIDLabel]
	if only == "" {
		s.lists = append(s.lists, time.Now())
	}
	var all []*runtimeapi.PodSandbox
	for id := range s.states {
		if only == "" || only == id {
			all = append(all, &runtimeapi.PodSandbox{Id: "s" + id, Metadata: &runtimeapi.PodSandboxMetadata{Uid: id}})
		}
	}
	return all, nil
}

func (s *stub) ListContainers(_ context.Context, f *runtimeapi.ContainerFilter) ([]*runtimeapi.Container, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	only := f.GetLabelSelector()[kubetypes.KubernetesPodUIDLabel]
	var all []*runtimeapi.Container
	for id, state := range s.states {
		if only == "" || only == id {
			all = append(all, &runtimeapi.Container{
				Id: id, PodSandboxId: "s" + id, State: state, Labels: map[string]string{kubetypes.KubernetesPodUIDLabel: id},
			})
		}
	}
	return all, nil
}

func (s *stub) PodSandboxStatus(_ context.Context, id string, _ bool) (*runtimeapi.PodSandboxStatusResponse, error) {
	return &runtimeapi.PodSandboxStatusResponse{Status: &runtimeapi.PodSandboxStatus{Id: id}}, nil
}

func (s *stub) ContainerStatus(ctx context.Context, id string, _ bool) (*runtimeapi.ContainerStatusResponse, error) {
	s.mu.Lock()
	hang, state := s.hang[id], s.states[id]
	s.looks++
	s.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return &runtimeapi.ContainerStatusResponse{Status: &runtimeapi.ContainerStatus{Id: id, State: state}}, nil
}

func (s *stub) GetContainerEvents(ctx context.Context, events chan *runtimeapi.ContainerEventResponse, established func(runtimeapi.RuntimeService_GetContainerEventsClient)) error {
	if s.none {
		return status.Error(codes.Unimplemented, "none")
	}
	established(nil)
	for {
		select {
		case e := <-s.events:
			events <- e
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *stub) set(id string, state runtimeapi.ContainerState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.states[id] = state
}

// since is how often it was listed since then.
func (s *stub) since(t time.Time) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, at := range s.lists {
		if !at.Before(t) {
			n++
		}
	}
	return n
}

const (
	running = runtimeapi.ContainerState_CONTAINER_RUNNING
	exited  = runtimeapi.ContainerState_CONTAINER_EXITED
)

// observing has an observer run for as long as f does. news are the pods that changed, in order.
func observing(t *testing.T, s *stub, f func(o *Observer, news func() []types.UID)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		if s.states == nil {
			s.states = map[string]runtimeapi.ContainerState{}
		}
		s.events = make(chan *runtimeapi.ContainerEventResponse)
		var mu sync.Mutex
		var changed []types.UID
		o := New(Config{Runtime: s, Name: "stub", Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Changed: func(id types.UID) {
			mu.Lock()
			defer mu.Unlock()
			changed = append(changed, id)
		}})
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() { _ = o.Run(ctx) })
		f(o, func() []types.UID {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			defer func() { changed = nil }()
			slices.Sort(changed)
			return changed
		})
		cancel()
		all.Wait()
	})
}

// TestLostEvent: what no event told is found by the next list, and events are not relied on for a while.
func TestLostEvent(t *testing.T) {
	t.Parallel()
	s := &stub{states: map[string]runtimeapi.ContainerState{"1": running}}
	observing(t, s, func(o *Observer, news func() []types.UID) {
		time.Sleep(time.Minute)
		if got := news(); !slices.Equal(got, []types.UID{"1"}) {
			t.Errorf("at first pods %v changed, want 1", got)
		}
		calm := time.Now()
		time.Sleep(time.Minute)
		if got := s.since(calm); got != 6 {
			t.Errorf("%d lists in a minute with events, want 6", got)
		}
		s.set("1", exited) // and nobody tells
		time.Sleep(10 * time.Second)
		if got := news(); !slices.Equal(got, []types.UID{"1"}) {
			t.Errorf("after a lost event pods %v changed, want 1", got)
		}
		doubts := time.Now()
		time.Sleep(30 * time.Second)
		if got := s.since(doubts); got < 29 {
			t.Errorf("%d lists in 30 s after a lost event, want one each second", got)
		}
		time.Sleep(time.Minute)
		calm = time.Now()
		time.Sleep(time.Minute)
		if got := s.since(calm); got != 6 {
			t.Errorf("%d lists in a minute when it was long ago, want 6", got)
		}
	})
}

// TestEventsAreRelied: what an event tells is known at once, and is no doubt of events.
func TestEventsAreRelied(t *testing.T) {
	t.Parallel()
	s := &stub{states: map[string]runtimeapi.ContainerState{"1": running}}
	observing(t, s, func(o *Observer, news func() []types.UID) {
		time.Sleep(time.Minute)
		news()
		began := time.Now()
		for i := range 10 {
			state := exited
			if i%2 == 1 {
				state = running
			}
			s.set("1", state)
			// Of a pod that only its container tells.
			s.events <- &runtimeapi.ContainerEventResponse{ContainerId: "1", ContainerEventType: runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT}
			if got := news(); !slices.Equal(got, []types.UID{"1"}) {
				t.Errorf("event %d: pods %v changed, want 1", i, got)
			}
			time.Sleep(6 * time.Second)
		}
		if got := s.since(began); got != 6 {
			t.Errorf("%d lists in a minute, want 6", got)
		}
		if got := news(); len(got) != 0 {
			t.Errorf("pods %v changed without a change", got)
		}
	})
}

// TestStarted: what was started is looked at by whoever had it started, or else a little later.
func TestStarted(t *testing.T) {
	t.Parallel()
	s := &stub{states: map[string]runtimeapi.ContainerState{"1": exited, "2": exited}}
	observing(t, s, func(o *Observer, news func() []types.UID) {
		time.Sleep(time.Minute)
		news()
		looks := func() int {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.looks
		}
		before := looks()
		for _, id := range []string{"1", "2"} {
			s.set(id, running)
			for _, kind := range []runtimeapi.ContainerEventType{
				runtimeapi.ContainerEventType_CONTAINER_CREATED_EVENT, runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT,
			} {
				s.events <- &runtimeapi.ContainerEventResponse{ContainerId: id, ContainerEventType: kind}
			}
		}
		if got := news(); len(got) > 0 {
			t.Errorf("pods %v changed at once", got)
		}
		time.Sleep(started / 2)
		if _, err := o.Refresh(t.Context(), "1"); err != nil {
			t.Error(err)
		}
		time.Sleep(started)
		if got := news(); !slices.Equal(got, []types.UID{"1", "2"}) {
			t.Errorf("pods %v changed, want 1 and 2", got)
		}
		if got := looks() - before; got != 2 {
			t.Errorf("%d looks at two pods", got)
		}
		time.Sleep(20 * time.Second)
		if got := news(); len(got) > 0 {
			t.Errorf("pods %v changed without a change", got)
		}
	})
}

// TestNoEvents: without them there is a list each second, and hardly an attempt to have any.
func TestNoEvents(t *testing.T) {
	t.Parallel()
	s := &stub{none: true}
	observing(t, s, func(o *Observer, news func() []types.UID) {
		time.Sleep(10*time.Second + time.Millisecond)
		if got := s.since(time.Time{}); got < 10 || got > 12 {
			t.Errorf("%d lists in 10 s, want one each second", got)
		}
		s.set("1", running)
		time.Sleep(time.Second)
		if got := news(); !slices.Equal(got, []types.UID{"1"}) {
			t.Errorf("after a second pods %v changed, want 1", got)
		}
	})
}

// TestHang: a pod whose calls hang does not hold up others.
func TestHang(t *testing.T) {
	t.Parallel()
	s := &stub{states: map[string]runtimeapi.ContainerState{"1": running, "2": running}}
	observing(t, s, func(o *Observer, news func() []types.UID) {
		answer := make(chan struct{})
		time.Sleep(time.Minute)
		news()
		s.mu.Lock()
		s.hang = map[string]chan struct{}{"1": answer}
		s.mu.Unlock()
		s.set("1", exited)
		s.set("2", exited)
		time.Sleep(time.Minute)
		if got := news(); !slices.Equal(got, []types.UID{"2"}) {
			t.Errorf("while calls for pod 1 hang pods %v changed, want 2", got)
		}
		if err := o.Healthy(); err != nil {
			t.Error(err)
		}
		close(answer)
		if got := news(); !slices.Contains(got, "1") {
			t.Errorf("when they were answered pods %v changed, want 1", got)
		}
		if got := o.Report("1").Containers[0].State; got != exited {
			t.Errorf("pod 1's container is %s, want that it has ended", got)
		}
	})
}

func TestHealthy(t *testing.T) {
	t.Parallel()
	s := &stub{down: true}
	observing(t, s, func(o *Observer, _ func() []types.UID) {
		is := func(want string) {
			t.Helper()
			synctest.Wait()
			got := ""
			if err := o.Healthy(); err != nil {
				got = err.Error()
			}
			if got != want {
				t.Errorf("healthy: %q, want %q", got, want)
			}
		}
		down := func(is bool) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.down = is
		}
		is("PLEG is not healthy: pleg has yet to be successful")
		if got := o.Report("1"); got != nil {
			t.Errorf("before the first list the report is %v, want none", got)
		}
		down(false)
		time.Sleep(time.Second)
		is("")
		down(true)
		time.Sleep(3 * time.Minute)
		is("")
		time.Sleep(time.Second)
		is("PLEG is not healthy: pleg was last seen active 3m1s ago; threshold is 3m0s")
		down(false)
		time.Sleep(time.Second)
		is("")
	})
}

// TestOldList: a list that began earlier does not undo what a later one has shown.
func TestOldList(t *testing.T) {
	t.Parallel()
	o := New(Config{Runtime: &stub{states: map[string]runtimeapi.ContainerState{}}, Changed: func(types.UID) {}})
	at := time.Now()
	look := func(state runtimeapi.ContainerState, at time.Time) {
		t.Helper()
		s := o.Runtime.(*stub)
		s.set("1", state)
		l, err := o.list(t.Context(), "1")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.inspect(t.Context(), "1", l.pods["1"], at); err != nil {
			t.Fatal(err)
		}
	}
	look(exited, at)
	look(running, at.Add(-time.Second))
	if got := o.Report("1").Containers[0].State; got != exited {
		t.Errorf("the container is %s, want that it has ended", got)
	}
	o.compare(t.Context(), list{at: at.Add(-time.Second)})
	if o.Report("1") == nil {
		t.Error("the pod is gone by a list that is older than it")
	}
	if gone := o.compare(t.Context(), list{at: at.Add(time.Second)}); len(gone) != 1 {
		t.Errorf("pods %v are gone, want 1", gone)
	}
	look(running, at)
	if got := o.Report("1"); len(got.Containers) != 0 {
		t.Errorf("a pod that was gone by then is there again: %v", got)
	}
}
