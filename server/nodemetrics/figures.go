package nodemetrics

import (
	"context"
	"sync"
	"time"
)

const (
	// fresh is how long figures are told again; autoscalers ask every 15 s.
	fresh = 10 * time.Second
	// kept is how long figures are the start of a window, and are in memory.
	kept = 5 * time.Minute
	// shortest is the least window of which what was used says something.
	shortest = time.Second
	// atOnce bounds the nodes that are asked at a time.
	atOnce = 16
)

// figures are those of the nodes that somebody asked for lately.
type figures struct {
	cfg Config

	mu     sync.Mutex
	nodes  map[string]*nodeFigures
	forget *time.Timer // nil: nothing is kept
}

// nodeFigures are of one node. Who asks for them takes turns.
type nodeFigures struct {
	turn      chan struct{} // holds one while nobody has it
	base      *sample       // where the window begins; nil: not known
	last      *sample
	lastAsked time.Time // of the node
	failed    error     // what came of it; nil: it answered
}

func newFigures(cfg Config) *figures { return &figures{cfg: cfg, nodes: map[string]*nodeFigures{}} }

// window is what was used between two samples.
type window struct{ base, last *sample }

// of asks nodes, and tells of those that answered.
func (f *figures) of(ctx context.Context, nodes []string) map[string]window {
	var (
		mu    sync.Mutex
		group sync.WaitGroup
		all   = make(map[string]window, len(nodes))
		seats = make(chan struct{}, atOnce)
	)
	for _, name := range nodes {
		seats <- struct{}{}
		group.Go(func() {
			defer func() { <-seats }()
			w, err := f.one(ctx, name)
			if err != nil {
				return // the others' figures are told
			}
			mu.Lock()
			defer mu.Unlock()
			all[name] = w
		})
	}
	group.Wait()
	return all
}

func (f *figures) entry(name string) *nodeFigures {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.nodes[name]
	if n == nil {
		n = &nodeFigures{turn: make(chan struct{}, 1)}
		n.turn <- struct{}{}
		f.nodes[name] = n
	}
	if f.forget == nil {
		f.forget = time.AfterFunc(kept, f.drop)
	} else {
		f.forget.Reset(kept)
	}
	return n
}

// drop lets everything go when nobody asked for anything for a while.
func (f *figures) drop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nodes, f.forget = map[string]*nodeFigures{}, nil
}

func (f *figures) one(ctx context.Context, name string) (window, error) {
	n := f.entry(name)
	select {
	case <-n.turn:
	case <-ctx.Done():
		return window{}, ctx.Err()
	}
	defer func() { n.turn <- struct{}{} }()
	if time.Since(n.lastAsked) < fresh && (n.base != nil || n.failed != nil) {
		return window{n.base, n.last}, n.failed // many who ask do not wait for a node that is away one after the other
	}
	err := f.renew(ctx, name, n)
	if ctx.Err() != nil {
		return window{}, ctx.Err() // which says nothing of the node
	}
	if err != nil {
		f.cfg.Log.Info("Node did not say what it uses", "node", name, "err", err)
	}
	n.lastAsked, n.failed = time.Now(), err
	return window{n.base, n.last}, err
}

// renew asks a node again.
func (f *figures) renew(ctx context.Context, name string, n *nodeFigures) error {
	next, err := f.fetch(ctx, name)
	if err != nil {
		return err
	}
	if n.last != nil && next.node.at.Sub(n.last.node.at) > kept {
		n.base, n.last = nil, nil
	}
	if n.last == nil { // nothing to compare with yet
		n.last = next
		select {
		case <-time.After(shortest + shortest/10):
		case <-ctx.Done():
			return ctx.Err()
		}
		if next, err = f.fetch(ctx, name); err != nil {
			return err
		}
	}
	if next.node.at.Sub(n.last.node.at) >= shortest { // a kubelet may tell the same again
		n.base, n.last = n.last, next
	}
	return nil
}

// used is how much of a CPU something used, in cores, and how much memory; false: it is not known.
func used(from, to *point) (cores, bytes float64, over time.Duration, ok bool) {
	if to == nil || to.has != hasCPU|hasMemory {
		return 0, 0, 0, false
	}
	begin, before := to.started, 0.0 // since it began, which was just now
	if from != nil && from.has&hasCPU != 0 && from.cpu <= to.cpu && !to.started.After(from.at) {
		begin, before = from.at, from.cpu
	}
	over = to.at.Sub(begin)
	if begin.IsZero() || over < shortest {
		return 0, 0, 0, false
	}
	return (to.cpu - before) / over.Seconds(), to.memory, over, true
}
