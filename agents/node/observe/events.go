package observe

import (
	"context"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Pauses between attempts to have events come. One that has no events now may have some when it was upgraded.
const (
	firstPause = time.Second
	lastPause  = 5 * time.Minute
	lasted     = time.Minute // streams that did are no failure
)

// listen has events come for as long as there are any.
func (o *Observer) listen(ctx context.Context) {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		began := time.Now()
		err := o.stream(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case status.Code(err) == codes.Unimplemented:
			pause = lastPause
		case time.Since(began) >= lasted:
			pause = firstPause
		}
		o.Log.Debug("Events of the runtime ended", "error", err, "retryIn", pause)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// stream takes events until there are no more.
func (o *Observer) stream(ctx context.Context) error {
	events := make(chan *runtimeapi.ContainerEventResponse, 100) // the client waits when it is full
	ended := make(chan error, 1)
	go func() {
		ended <- o.Runtime.GetContainerEvents(ctx, events, func(runtimeapi.RuntimeService_GetContainerEventsClient) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.streaming = time.Now()
		})
	}()
	for {
		select {
		case e := <-events: // also when ctx has ended: the client does not look at it while it sends
			o.event(e)
		case err := <-ended:
			o.mu.Lock()
			o.streaming = time.Time{}
			o.now = true
			o.mu.Unlock()
			o.kick()
			return err
		}
	}
}

// event has the pod looked at that it is about. What it says besides is older than what a look shows.
func (o *Observer) event(e *runtimeapi.ContainerEventResponse) {
	o.mu.Lock()
	defer o.mu.Unlock()
	id := types.UID(e.GetPodSandboxStatus().GetMetadata().GetUid())
	if id == "" {
		for _, p := range o.pods {
			if slices.Contains(p.Containers, e.ContainerId) || slices.Contains(p.Sandboxes, e.ContainerId) {
				id = p.UID
				break
			}
		}
	}
	if id == "" { // it is found by the next list
		return
	}
	now := time.Now()
	at := now
	if t := e.ContainerEventType; t == runtimeapi.ContainerEventType_CONTAINER_CREATED_EVENT || t == runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT {
		at = now.Add(started)
	}
	if before, is := o.due[id]; is && before.at.Before(at) {
		at = before.at
	}
	o.due[id] = due{at: at, heard: now}
	o.kick()
}
