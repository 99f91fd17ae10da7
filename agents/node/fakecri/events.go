package fakecri

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// LoseEvents has events of what happens from now on reach nobody, or somebody again.
func (r *Runtime) LoseEvents(lose bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deaf = lose
}

// Watchers is how many ask for events now.
func (r *Runtime) Watchers() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.watchers)
}

// event tells who listens. Who does not take it in time misses it.
func (r *Runtime) event(id string, s *sandbox, kind runtimeapi.ContainerEventType) {
	if len(r.watchers) == 0 || r.deaf {
		return
	}
	e := &runtimeapi.ContainerEventResponse{ContainerId: id, ContainerEventType: kind, CreatedAt: now()}
	if s != nil {
		e.PodSandboxStatus = s.status()
		for _, c := range r.containers {
			if c.sandbox == s.id {
				e.ContainersStatuses = append(e.ContainersStatuses, clone(c.status))
			}
		}
	}
	for w := range r.watchers {
		select {
		case w <- e:
		default:
		}
	}
}

func (r *runtimeServer) GetContainerEvents(_ *runtimeapi.GetEventsRequest, stream runtimeapi.RuntimeService_GetContainerEventsServer) error {
	switch r.Profile.Events {
	case EventsEnd:
		return nil
	case EventsUnimplemented:
		return status.Error(codes.Unimplemented, "unknown method GetContainerEvents for service runtime.v1.RuntimeService")
	}
	w := make(chan *runtimeapi.ContainerEventResponse, 1000)
	r.mu.Lock()
	r.watchers[w] = struct{}{}
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		delete(r.watchers, w)
		r.mu.Unlock()
	}()
	for {
		select {
		case <-stream.Context().Done():
			return nil
		case e := <-w:
			if err := stream.Send(e); err != nil {
				return err
			}
		}
	}
}
