// Package observe knows what the container runtime has: it lists all pods and containers again and again, looks closer at pods of which
// the list has changed, and tells whoever acts on them. Events of the runtime only speed that up: what one of them should have told
// the next list tells.
package observe

import (
	"cmp"
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/rowlock-io/rowlock/agents/node/cri"
)

// Runtime is what is asked.
type Runtime interface {
	ListPodSandbox(ctx context.Context, filter *runtimeapi.PodSandboxFilter) ([]*runtimeapi.PodSandbox, error)
	ListContainers(ctx context.Context, filter *runtimeapi.ContainerFilter) ([]*runtimeapi.Container, error)
	PodSandboxStatus(ctx context.Context, id string, verbose bool) (*runtimeapi.PodSandboxStatusResponse, error)
	ContainerStatus(ctx context.Context, id string, verbose bool) (*runtimeapi.ContainerStatusResponse, error)
	GetContainerEvents(ctx context.Context, events chan *runtimeapi.ContainerEventResponse, established func(runtimeapi.RuntimeService_GetContainerEventsClient)) error
}

// Config is what an Observer is made of.
type Config struct {
	Runtime Runtime
	Name    string // the runtime's, for ids of containers
	// Changed is called when something of a pod has changed. It must not wait.
	Changed func(types.UID)
	// Listed is called after each list of all, which began then; nil: nobody counts them.
	Listed func(began time.Time)
	Log    *slog.Logger
	// Relist is the time between two lists; 0: a second. WithEvents is the same while events come; 0: ten.
	Relist, WithEvents time.Duration
	// Threshold is how old the last list may be; 0: three minutes.
	Threshold time.Duration
}

// Pod is what the runtime has of one pod.
type Pod struct {
	UID             types.UID
	Namespace, Name string
	// Running: a container runs. Ready: a sandbox does.
	Running, Ready bool
	Sandboxes      []string // ids, the newest first
	Containers     []string // ids, in no order
}

// Observer is one.
type Observer struct {
	Config

	wake    chan struct{}  // something is due; holds one
	looking sync.WaitGroup // at pods
	slots   chan struct{}  // of those who look at the same time
	seed    maphash.Seed

	mu        sync.Mutex
	pods      map[types.UID]*pod
	busy      map[types.UID]bool // pods that somebody looks at; true: and has to again
	due       map[types.UID]due  // pods that events named
	now       bool               // a list is due at once
	listed    time.Time          // when the last list that succeeded began; zero: none
	failing   bool               // the last list failed
	streaming time.Time          // since when events come; zero: they do not
	doubted   time.Time          // until when they are not relied on
}

// pod is what is known of one.
type pod struct {
	Pod
	at      time.Time // of the last list with it
	sum     uint64    // of what the report was made of
	report  *cri.Report
	failing bool // the last look failed
}

// due is when a pod is to be looked at because of events, the last of which came then.
type due struct{ at, heard time.Time }

// started is how long a pod is left alone that was heard to have something new: whoever made that looks by itself.
const started = time.Second

// lookers is how many pods are looked at at the same time: one whose calls hang does not hold up others.
const lookers = 8

// New makes one that does nothing until Run.
func New(c Config) *Observer {
	c.Relist = cmp.Or(c.Relist, time.Second)
	c.WithEvents = cmp.Or(c.WithEvents, 10*time.Second)
	c.Threshold = cmp.Or(c.Threshold, 3*time.Minute)
	return &Observer{
		Config: c, wake: make(chan struct{}, 1), slots: make(chan struct{}, lookers), seed: maphash.MakeSeed(),
		pods: map[types.UID]*pod{}, busy: map[types.UID]bool{}, due: map[types.UID]due{},
	}
}

// Run observes until ctx ends.
func (o *Observer) Run(ctx context.Context) error {
	var events sync.WaitGroup
	events.Go(func() { o.listen(ctx) })
	defer o.looking.Wait()
	defer events.Wait()
	timer, soon := time.NewTimer(0), time.NewTimer(time.Hour)
	defer timer.Stop()
	defer soon.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			o.relist(ctx)
			timer.Reset(o.pause())
			continue
		case <-o.wake:
		case <-soon.C:
		}
		list, next := o.lookAtDue(ctx)
		if list {
			timer.Reset(0)
		}
		if next > 0 {
			soon.Reset(next)
		}
	}
}

// lookAtDue has pods looked at that events named, but those that were looked at since. It tells whether a list is due at once, and how
// long nobody else is; 0: nobody is.
func (o *Observer) lookAtDue(ctx context.Context) (list bool, next time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	for id, d := range o.due {
		p := o.pods[id]
		if p == nil || p.report == nil || p.failing || p.at.Before(d.heard) {
			if wait := d.at.Sub(now); wait > 0 {
				if next == 0 || wait < next {
					next = wait
				}
				continue
			}
			o.look(ctx, id, nil, time.Time{})
		}
		delete(o.due, id)
	}
	list, o.now = o.now, false
	return list, next
}

func (o *Observer) kick() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// pause is the time until the next list.
func (o *Observer) pause() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.settled() && !time.Now().Before(o.doubted) && !o.failing {
		return o.WithEvents
	}
	return o.Relist
}

// settled: events have come for some time. A stream that has only begun may be about to end.
func (o *Observer) settled() bool {
	return !o.streaming.IsZero() && time.Since(o.streaming) >= 5*time.Second
}

// Healthy says why what is known is too old, in upstream's words.
func (o *Observer) Healthy() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.listed.IsZero() {
		return fmt.Errorf("PLEG is not healthy: pleg has yet to be successful")
	}
	if elapsed := time.Since(o.listed); elapsed > o.Threshold {
		return fmt.Errorf("PLEG is not healthy: pleg was last seen active %v ago; threshold is %v", elapsed, o.Threshold)
	}
	return nil
}

// Report is what is known of a pod; nil: nothing was asked yet, or it could not be answered yet. The report of a pod that the runtime
// does not have is empty. Reports are not changed any more; who wants to sort one copies it.
func (o *Observer) Report(id types.UID) *cri.Report {
	o.mu.Lock()
	defer o.mu.Unlock()
	if p := o.pods[id]; p != nil {
		return p.report
	}
	if _, looked := o.busy[id]; looked || o.listed.IsZero() {
		return nil // it has not been asked, or has not answered
	}
	return &cri.Report{Runtime: o.Name, At: o.listed}
}

// Reports are those of all pods of which the runtime has anything.
func (o *Observer) Reports() []*cri.Report {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := make([]*cri.Report, 0, len(o.pods))
	for _, p := range o.pods {
		if p.report != nil {
			all = append(all, p.report)
		}
	}
	return all
}

// Pods are those of which the runtime has anything; false: it has not been asked yet.
func (o *Observer) Pods() (pods []Pod, known bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range o.pods {
		pods = append(pods, p.Pod)
	}
	slices.SortFunc(pods, func(a, b Pod) int { return cmp.Compare(a.UID, b.UID) })
	return pods, !o.listed.IsZero()
}
