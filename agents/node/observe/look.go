package observe

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/rowlock-io/rowlock/agents/node/cri"
)

// Refresh asks for what the runtime has of a pod now. When that is news, Changed is called too.
func (o *Observer) Refresh(ctx context.Context, id types.UID) (*cri.Report, error) {
	l, err := o.list(ctx, id)
	if err != nil {
		return nil, err
	}
	return o.inspect(ctx, id, l.pods[id], l.at)
}

// look has somebody look at a pod. l is what a list has just shown of it; nil: it is listed again. The lock is held.
func (o *Observer) look(ctx context.Context, id types.UID, l *listed, at time.Time) {
	if _, busy := o.busy[id]; busy {
		o.busy[id] = true
		return
	}
	o.busy[id] = false
	o.looking.Go(func() {
		for {
			select {
			case o.slots <- struct{}{}:
			case <-ctx.Done():
				return
			}
			if l != nil { // errors are noted: the next list finds the pod again
				_, _ = o.inspect(ctx, id, l, at)
			} else {
				_, _ = o.Refresh(ctx, id)
			}
			<-o.slots
			if ctx.Err() != nil || !o.again(id) {
				return
			}
			l = nil
		}
	})
}

// again tells whether somebody who has looked has to look again, or else is done.
func (o *Observer) again(id types.UID) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.busy[id] {
		o.busy[id] = false
		return true
	}
	delete(o.busy, id)
	return false
}

// inspect makes the report of a pod that was listed and takes it over; l is nil when the runtime has nothing of it.
func (o *Observer) inspect(ctx context.Context, id types.UID, l *listed, at time.Time) (*cri.Report, error) {
	o.mu.Lock()
	var old *cri.Report
	if p := o.pods[id]; p != nil {
		old = p.report
	}
	o.mu.Unlock()
	report := &cri.Report{Runtime: o.Name, At: at}
	err := o.fill(ctx, report, l, old)
	if err != nil && ctx.Err() != nil {
		return nil, err
	}
	if err == nil && l != nil {
		l = o.shown(l.pod, report)
	}
	if err == nil && len(report.Sandboxes)+len(report.Containers) == 0 {
		l = nil // all was removed since it was listed
	}
	news := o.take(id, l, report, err)
	if err != nil {
		return nil, err
	}
	if news {
		o.Changed(id)
	}
	return report, nil
}

// shown is what a list would show that was made when the report was: it may be newer than the one that the report began with.
func (o *Observer) shown(as Pod, report *cri.Report) *listed {
	l := &listed{pod: Pod{UID: as.UID, Namespace: as.Namespace, Name: as.Name}}
	for _, s := range report.Sandboxes {
		l.sandbox(o.seed, s.Id, s.State)
	}
	for _, c := range report.Containers {
		l.container(o.seed, c.Id, c.State)
	}
	return l
}

// take takes a report over, unless there is one that was asked for later. It tells whether it is news.
func (o *Observer) take(id types.UID, l *listed, report *cri.Report, err error) (news bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.pods[id]
	switch {
	case p != nil && report.At.Before(p.at), p == nil && report.At.Before(o.listed):
		return false
	case l == nil:
		delete(o.pods, id)
		return p != nil
	case p == nil:
		p = &pod{}
		o.pods[id] = p
	}
	p.Pod, p.at = l.pod, report.At
	if err != nil {
		if !p.failing {
			o.Log.Warn("A pod could not be looked at", "pod", p.Namespace+"/"+p.Name, "error", err)
		}
		p.failing = true
		return false
	}
	news = p.report == nil || p.sum != l.sum || p.failing
	p.report, p.sum, p.failing = report, l.sum, false
	return news
}

// fill asks for all that is known of a pod's sandboxes and containers. What has been removed since it was listed is left out.
func (o *Observer) fill(ctx context.Context, report *cri.Report, l *listed, old *cri.Report) error {
	if l == nil {
		return nil
	}
	ready := false
	for _, s := range l.sandboxes {
		resp, err := o.Runtime.PodSandboxStatus(ctx, s.Id, false)
		switch {
		case status.Code(err) == codes.NotFound:
			continue
		case err != nil:
			return err
		case resp.GetStatus() == nil:
			return errors.New("pod sandbox status is nil")
		}
		report.Sandboxes = append(report.Sandboxes, resp.Status)
		if resp.Status.State == runtimeapi.PodSandboxState_SANDBOX_READY {
			ready = true
		}
	}
	if !ready && old != nil { // the API shows the address of a pod that is over
		report.LastIPs = old.IPs()
	}
	for _, c := range l.containers {
		if done := unchanged(old, c); done != nil {
			report.Containers = append(report.Containers, *done)
			report.Say(c.Id, old.Messages[c.Id])
			continue
		}
		resp, err := o.Runtime.ContainerStatus(ctx, c.Id, false)
		switch {
		case status.Code(err) == codes.NotFound:
			continue
		case err != nil:
			return err
		case resp.GetStatus() == nil:
			return errors.New("container status is nil")
		}
		report.Containers = append(report.Containers, cri.Reported{ContainerStatus: resp.Status, Sandbox: c.PodSandboxId})
		report.Say(c.Id, message(ctx, resp.Status))
	}
	return nil
}

// settling is how long a container's log may still be written when it has ended.
const settling = 5 * time.Second

// unchanged is what is known of a container that has ended for good; nil: it has not, or only just.
func unchanged(old *cri.Report, c *runtimeapi.Container) *cri.Reported {
	if old == nil || c.State != runtimeapi.ContainerState_CONTAINER_EXITED {
		return nil
	}
	for i := range old.Containers {
		had := &old.Containers[i]
		if had.Id == c.Id && had.State == c.State && old.At.Sub(time.Unix(0, had.FinishedAt)) > settling {
			return had
		}
	}
	return nil
}
