package cache_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
)

var seedFlag = flag.Uint64("seed", 0, "seed of the random tests; 0: a new one")

func newSeed(t testing.TB) uint64 {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("to replay: -run '%s' -seed %d", t.Name(), seed)
	return seed
}

type state map[storage.Key]seen

// seen is a state of an object as somebody saw it.
type seen struct {
	Revision storage.Revision
	Data     string
}

func seenAs(e *cache.Entry) seen { return seen{e.Revision, bytesOf(e)} }

// stateOf is a selection's present by the store.
func stateOf(t testing.TB, s storage.Store, sel storage.Selector, at storage.Revision) state {
	p, err := s.List(t.Context(), sel, storage.ListOptions{Revision: at})
	if err != nil {
		t.Error(err)
	}
	st := state{}
	for _, o := range p.Objects {
		st[o.Key] = seen{o.Revision, string(o.Data)}
	}
	return st
}

// follow applies what a watcher gives until it has come through the revision that comes on end, and checks order and
// previous states on the way.
func (st state) follow(t *testing.T, r *rand.Rand, w *cache.Watcher, after storage.Revision, end <-chan storage.Revision) {
	through, last := after, storage.Revision(0)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		select {
		case rev := <-end:
			last = rev
			cancel()
		case <-ctx.Done():
		}
	}()
	ending := false
	for {
		var b cache.Batch
		var err error
		if ending {
			w.Wake()
			b, err = w.Next(t.Context())
		} else if r.IntN(3) == 0 {
			b, err = w.TryNext()
		} else {
			b, err = w.Next(ctx)
		}
		if err != nil && ctx.Err() != nil && !ending {
			ending, err = true, nil
		}
		if err != nil {
			t.Errorf("Next: %v", err)
			return
		}
		for _, c := range b.Changes {
			if c.Entry.Revision <= through {
				t.Errorf("revision %d after %d", c.Entry.Revision, through)
			}
			through = c.Entry.Revision
			had, known := st[c.Entry.Key]
			if (c.Prev == nil) == known || c.Prev != nil && seenAs(c.Prev) != had {
				t.Errorf("change %v does not follow on %v", show([]cache.Change{c}), had)
			}
			if c.Verb == storage.Delete {
				if last := bytesOf(c.Entry); last != had.Data {
					t.Errorf("deletion %v shows %q, want %q", show([]cache.Change{c}), last, had.Data)
				}
				delete(st, c.Entry.Key)
			} else {
				st[c.Entry.Key] = seenAs(c.Entry)
			}
		}
		if b.Through < through {
			t.Errorf("through %d below a change at %d", b.Through, through)
		}
		through = b.Through
		if ending && through >= last {
			return
		}
		if r.IntN(20) == 0 {
			time.Sleep(time.Duration(r.IntN(3)) * time.Millisecond) // a slow reader now and then
		}
	}
}

// TestModel runs two replicas whose wake-ups are lost and false, random commits by both and by a third, small and large
// histories, room for all objects in memory or for some, and watchers that come at any time: what each saw, applied to the
// state it started from, is the state at the end.
func TestModel(t *testing.T) {
	t.Parallel()
	for _, ring := range []int{3, 60, 100_000} {
		for _, budget := range []int64{0, 300} {
			t.Run(fmt.Sprintf("ring=%d/budget=%d", ring, budget), func(t *testing.T) {
				t.Parallel()
				runModel(t, newSeed(t), ring, budget)
			})
		}
	}
}

func runModel(t *testing.T, seed uint64, ring int, maxBytes int64) {
	r := rand.New(rand.NewPCG(seed, 0))
	open := database(t)
	stores := []*stage{deaf(open()), deaf(open())}
	third := open()
	budget := cache.NewBudget(maxBytes)
	var caches []*cache.Cache
	for _, s := range stores {
		caches = append(caches, start(t, cache.Config{Store: s, RingEntries: ring, Budget: budget}))
	}
	selections := []storage.Selector{
		{Resource: "pods"},
		{Resource: "pods", Namespace: "a"},
		{Resource: "pods", Namespace: "b", Name: "1"},
		{Resource: "nodes"},
		{},
		{Resource: "nodes", Name: "2"},
		{Namespace: "b"},
	}
	var keys []storage.Key
	for i := range 6 {
		n := fmt.Sprint(i)
		keys = append(keys, pod("a", n), pod("b", n), key("nodes", "", n), key("leases", "a", n))
	}

	var wg sync.WaitGroup
	type spectator struct {
		sel storage.Selector
		st  state
		end chan storage.Revision
	}
	var all []spectator
	join := func() {
		c := caches[r.IntN(len(caches))]
		at := c.Position().Revision
		sel := selections[r.IntN(len(selections))]
		w, err := c.Watch(t.Context(), sel, at)
		if err != nil {
			t.Fatal(err)
		}
		sp := spectator{sel: sel, st: stateOf(t, third, sel, at), end: make(chan storage.Revision, 1)}
		all = append(all, sp)
		own := rand.New(rand.NewPCG(seed, uint64(len(all))))
		wg.Go(func() {
			defer w.Close()
			sp.st.follow(t, own, w, at, sp.end)
		})
	}

	model := map[storage.Key]storage.Revision{}
	text := func(step int) string { return fmt.Sprintf("%d %s", step, strings.Repeat("x", r.IntN(60))) }
	for step := range 1500 {
		if r.IntN(30) == 0 {
			join()
		}
		// One commit of a few ops, some of which lose.
		var ops []storage.Op
		for _, i := range r.Perm(len(keys))[:1+r.IntN(4)] {
			k := keys[i]
			rev := model[k]
			switch {
			case r.IntN(10) == 0:
				ops = append(ops, update(k, rev+1000, "wrong"))
			case rev == 0:
				ops = append(ops, create(k, text(step)))
			case r.IntN(3) == 0:
				ops = append(ops, remove(k, rev))
			default:
				ops = append(ops, update(k, rev, text(step)))
			}
		}
		who := r.IntN(3)
		var s storage.Store = third
		if who < 2 {
			s = stores[who]
		}
		done, err := s.Commit(t.Context(), ops)
		if err != nil {
			t.Fatal(err)
		}
		if who < 2 && r.IntN(10) > 0 { // sometimes the process is too busy to say
			aux := make([]any, len(ops))
			for i := range aux {
				aux[i] = done.Results[i].Revision
			}
			caches[who].Apply(ops, aux, done)
		}
		for i, res := range done.Results {
			if res.Err != nil {
				continue
			}
			model[ops[i].Key] = res.Revision
			if ops[i].Verb == storage.Delete {
				delete(model, ops[i].Key)
			}
		}
		for _, s := range stores {
			if r.IntN(4) == 0 { // wake-ups come late, together, or for nothing
				s.nudge()
			}
		}
		if r.IntN(10) == 0 { // somebody who reads one object after the other
			stateIn(t, caches[r.IntN(len(caches))].Snapshot("pods"))
		}
		if r.IntN(50) == 0 {
			checkPast(t, r, caches[r.IntN(len(caches))], third)
		}
	}
	head, err := third.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range stores {
		s.nudge()
	}
	for i, c := range caches {
		waitFor(t, c, head.Revision)
		for _, resource := range []string{"pods", "nodes", "leases"} {
			snap, want := c.Snapshot(resource), stateOf(t, third, storage.Selector{Resource: resource}, 0)
			equal(t, fmt.Sprintf("%s of cache %d", resource, i), stateIn(t, snap), want)
		}
	}
	if maxBytes > 0 && (budget.Loads() == 0 || budget.Dropped() == 0) {
		t.Errorf("%d objects were dropped and %d read again", budget.Dropped(), budget.Loads())
	}
	for _, sp := range all {
		sp.end <- head.Revision
	}
	wg.Wait()
	for i, sp := range all {
		want := stateOf(t, third, sp.sel, 0)
		equal(t, fmt.Sprintf("watcher %d of %+v", i, sp.sel), sp.st, want)
	}
}

// stateIn is what a snapshot holds, checked for order and for aux values that belong to other revisions.
func stateIn(t testing.TB, snap cache.Snapshot) state {
	st := state{}
	var last storage.Key
	snap.Scan("", storage.Key{}, func(e *cache.Entry) bool {
		if e.Key.Compare(last) <= 0 {
			t.Errorf("%v after %v", e.Key, last)
		}
		last = e.Key
		st[e.Key] = seenAs(e)
		if rev, ok := e.Aux().(storage.Revision); ok && rev != e.Revision {
			t.Errorf("%v at %d has the aux value of %d", e.Key, e.Revision, rev)
		}
		return true
	})
	return st
}

// checkPast compares a snapshot of a random past revision with the store's.
func checkPast(t *testing.T, r *rand.Rand, c *cache.Cache, s storage.Store) {
	t.Helper()
	floor, err := s.Floor(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	now := c.Position().Revision
	at := floor + storage.Revision(r.Uint64N(uint64(now-floor)+1))
	resource := []string{"pods", "nodes", "none"}[r.IntN(3)]
	snap, err := c.SnapshotAt(t.Context(), resource, at)
	if err != nil {
		t.Fatalf("SnapshotAt %d of %d: %v", at, now, err)
	}
	if snap.Revision() != at {
		t.Errorf("snapshot of %d says %d", at, snap.Revision())
	}
	want := stateOf(t, s, storage.Selector{Resource: resource}, at)
	equal(t, fmt.Sprintf("%s at %d", resource, at), stateIn(t, snap), want)
	if resource != "none" {
		checkCount(t, snap, slices.Sorted(func(yield func(string) bool) {
			for k := range want {
				if !yield(k.Namespace + "/" + k.Name) {
					return
				}
			}
		}))
	}
}

// checkCount compares Count and Scan for every place in a snapshot.
func checkCount(t *testing.T, snap cache.Snapshot, names []string) {
	t.Helper()
	if snap.Len() != len(names) {
		t.Errorf("Len is %d, want %d", snap.Len(), len(names))
	}
	for _, ns := range []string{"", "a", "b", "c"} {
		for _, after := range []storage.Key{{}, pod("", "1"), pod("a", "0"), pod("a", "2"), pod("a", "zz"), pod("b", "3")} {
			n := 0
			snap.Scan(ns, after, func(e *cache.Entry) bool {
				if ns != "" && e.Namespace != ns {
					t.Errorf("Scan of %q gave %v", ns, e.Key)
				}
				n++
				return true
			})
			if got := snap.Count(ns, after); got != n {
				t.Errorf("Count(%q, %v) is %d, Scan gave %d", ns, after, got, n)
			}
		}
	}
}
