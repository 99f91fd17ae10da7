package probe

import (
	"container/heap"
	"context"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/kubernetes/pkg/kubelet/prober/results"
)

// Run probes until the context ends, and waits for probes that are under way.
func (p *Prober) Run(ctx context.Context) {
	defer p.probes.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-p.wake:
		}
		if next, ok := p.dispatch(ctx); ok {
			timer.Reset(time.Until(next))
		}
	}
}

// rouse has Run look again.
func (p *Prober) rouse() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// dispatch starts what is due, and says when something is next.
func (p *Prober) dispatch(ctx context.Context) (next time.Time, ok bool) {
	p.mu.Lock()
	now := time.Now()
	var news []types.UID
	for len(p.due) > 0 && !p.due[0].next.After(now) {
		t := p.due[0]
		p.due.remove(t)
		ask, on := t.step(now)
		if t.news {
			t.news = false
			news = append(news, t.pod.spec.UID)
		}
		switch {
		case !on:
			p.drop(t)
		case ask:
			p.ready = append(p.ready, t)
		default:
			t.again(now)
			p.due.add(t)
		}
	}
	for len(p.ready) > 0 && p.running < p.cfg.Parallel {
		t := p.ready[0]
		p.ready = slices.Delete(p.ready, 0, 1)
		if !t.off {
			p.ask(ctx, t)
		}
	}
	if ok = len(p.due) > 0; ok {
		next = p.due[0].next
	}
	p.mu.Unlock()
	p.tell(news)
	return next, ok
}

func (p *Prober) tell(news []types.UID) {
	slices.Sort(news)
	for _, uid := range slices.Compact(news) {
		p.cfg.Changed(uid)
	}
}

// ask asks one container in a goroutine of its own.
func (p *Prober) ask(ctx context.Context, t *task) {
	q := question{
		kind: t.kind, spec: t.spec, pod: t.pod.spec, container: t.container, id: t.id.ID, ip: t.pod.status.PodIP,
	}
	p.running++
	release := sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.running--
		p.rouse()
	})
	late := time.AfterFunc(slow, release)
	p.probes.Go(func() {
		began := time.Now()
		result, err := p.asker.ask(ctx, q)
		late.Stop()
		p.finish(t, result, err, time.Since(began))
		release()
	})
}

// finish takes an answer; one with an error is none.
func (p *Prober) finish(t *task, result results.Result, err error, took time.Duration) {
	p.mu.Lock()
	var news []types.UID
	if !t.off {
		if err == nil {
			p.counts.add(t, result, took)
			t.answer(result)
		}
		if t.news {
			t.news = false
			news = append(news, t.pod.spec.UID)
		}
		t.again(time.Now())
		p.due.add(t)
		p.rouse()
	}
	p.mu.Unlock()
	p.tell(news)
}

// queue is a heap of tasks by when they are due.
type queue []*task

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].next.Before(q[j].next) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push and Pop are the heap's own.
func (q *queue) Push(x any) {
	t := x.(*task)
	t.index = len(*q)
	*q = append(*q, t)
}

func (q *queue) Pop() any {
	last := len(*q) - 1
	t := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	t.index = -1
	return t
}

func (q *queue) add(t *task)  { heap.Push(q, t) }
func (q *queue) move(t *task) { heap.Fix(q, t.index) }

// remove takes it out if it is in.
func (q *queue) remove(t *task) {
	if t.index >= 0 {
		heap.Remove(q, t.index)
	}
}
