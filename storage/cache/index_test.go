package cache_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
)

// termsIn reads terms from what tests store: "a=1,b=2 and more".
func termsIn(e *cache.Entry, to []cache.Term) ([]cache.Term, error) {
	data, err := e.Bytes()
	if err != nil {
		return to, err
	}
	words, _, _ := strings.Cut(string(data), " ")
	if words == "?" {
		return append(to, cache.Term{}), nil
	}
	for _, word := range strings.Split(words, ",") {
		if name, value, ok := strings.Cut(word, "="); ok {
			to = append(to, cache.Term{Name: name, Value: value})
		}
	}
	return to, nil
}

// meets tells whether an object has what is asked for, or may have.
func meets(t testing.TB, e *cache.Entry, choices []cache.Choice) bool {
	terms, err := termsIn(e, nil)
	if err != nil && !errors.Is(err, storage.ErrCompacted) {
		t.Error(err)
	}
	for _, c := range choices {
		if !slices.ContainsFunc(terms, func(has cache.Term) bool {
			return has == cache.Term{} || has.Name == c.Name && (len(c.Values) == 0 || slices.Contains(c.Values, has.Value))
		}) {
			return false
		}
	}
	return true
}

func randomTerms(r *rand.Rand) string {
	if r.IntN(100) == 0 {
		return "? " + strings.Repeat("x", r.IntN(20))
	}
	var words []string
	if r.IntN(3) > 0 {
		words = append(words, fmt.Sprintf("app=%d", r.IntN(40)))
	}
	if r.IntN(10) == 0 {
		words = append(words, "canary=")
	}
	if r.IntN(2) == 0 {
		words = append(words, fmt.Sprintf("tier=%d", r.IntN(3)))
	}
	words = append(words, "all=yes")
	return strings.Join(words, ",") + " " + strings.Repeat("x", r.IntN(20))
}

func randomChoices(r *rand.Rand) (choices []cache.Choice) {
	number := func(n int) string { return fmt.Sprint(r.IntN(n)) }
	for range 1 + r.IntN(2) {
		choices = append(choices, []cache.Choice{
			{Name: "app", Values: []string{number(41)}},
			{Name: "app", Values: []string{number(40), number(40), number(40)}},
			{Name: "canary"},
			{Name: "canar"},
			{Name: "canary", Values: []string{""}},
			{Name: "tier", Values: []string{number(3)}},
			{Name: "tier"},
			{Name: "all"},
		}[r.IntN(8)])
	}
	return choices
}

// TestIndexModel writes at random, with this replica's commits and foreign ones, while readers compare what indexes find with
// what looking at each object finds, in the present and in the past.
func TestIndexModel(t *testing.T) {
	t.Parallel()
	for _, ring := range []int{60, 100_000} {
		for _, budget := range []int64{0, 2000} {
			t.Run(fmt.Sprintf("ring=%d/budget=%d", ring, budget), func(t *testing.T) {
				t.Parallel()
				runIndexModel(t, newSeed(t), ring, budget)
			})
		}
	}
}

func runIndexModel(t *testing.T, seed uint64, ring int, maxBytes int64) {
	r := rand.New(rand.NewPCG(seed, 0))
	open := database(t)
	own, foreign := deaf(open()), open()
	c := start(t, cache.Config{Store: own, RingEntries: ring, Budget: cache.NewBudget(maxBytes)})
	model := map[storage.Key]storage.Revision{}
	write := func(s storage.Store, ops []storage.Op, tell bool) {
		done, err := s.Commit(t.Context(), ops)
		if err != nil {
			t.Error(err)
			return
		}
		for i, res := range done.Results {
			if model[ops[i].Key] = res.Revision; ops[i].Verb == storage.Delete {
				delete(model, ops[i].Key)
			}
		}
		if tell {
			c.Apply(ops, nil, done)
		}
	}
	var keys []storage.Key
	var ops []storage.Op
	for i := range 600 {
		k := pod(string(rune('a'+i%3)), fmt.Sprint(i))
		keys = append(keys, k)
		if i%4 > 0 {
			ops = append(ops, create(k, randomTerms(r)))
		}
	}
	write(own, ops, true)

	var wg sync.WaitGroup
	var found, scanned atomic.Int64
	done := make(chan struct{})
	for reader := range 3 {
		r := rand.New(rand.NewPCG(seed, uint64(reader+1)))
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					if i > 200 {
						return
					}
				default:
				}
				if compareFind(t, r, c) {
					found.Add(1)
				} else {
					scanned.Add(1)
				}
			}
		})
	}
	for range 1500 {
		ops := ops[:0]
		for _, i := range r.Perm(len(keys))[:1+r.IntN(5)] {
			k := keys[i]
			rev := model[k]
			switch {
			case rev == 0:
				ops = append(ops, create(k, randomTerms(r)))
			case r.IntN(4) == 0:
				ops = append(ops, remove(k, rev))
			default:
				ops = append(ops, update(k, rev, randomTerms(r)))
			}
		}
		if r.IntN(4) == 0 {
			write(foreign, ops, false)
		} else {
			write(own, ops, r.IntN(10) > 0)
		}
		if r.IntN(4) == 0 {
			own.nudge()
		}
		if r.IntN(200) == 0 {
			c.Cool()
		}
	}
	close(done)
	wg.Wait()
	// A small history leaves indexes behind, and then they have to be made anew or are done without.
	if found.Load() < 10 && ring > 1000 || scanned.Load() == 0 {
		t.Errorf("%d lists were answered by an index, %d not", found.Load(), scanned.Load())
	}
}

// compareFind compares one random list, and tells whether an index answered it.
func compareFind(t *testing.T, r *rand.Rand, c *cache.Cache) bool {
	snap := c.Snapshot("pods")
	if r.IntN(4) == 0 {
		back := min(storage.Revision(r.IntN(100)), snap.Revision()-700)
		var err error
		if snap, err = c.SnapshotAt(t.Context(), "pods", snap.Revision()-back); err != nil {
			t.Error(err)
			return false
		}
	}
	namespace := []string{"", "", "a", "b", "none"}[r.IntN(5)]
	after := []storage.Key{{}, {}, pod("a", "3"), pod("b", fmt.Sprint(r.IntN(600)))}[r.IntN(4)]
	choices := randomChoices(r)
	var got, want []string
	var last storage.Key
	if !snap.Find(namespace, after, termsIn, choices, func(e *cache.Entry) bool {
		if e.Key.Compare(last) <= 0 {
			t.Errorf("%v after %v", e.Key, last)
		}
		if last = e.Key; meets(t, e, choices) {
			got = append(got, fmt.Sprint(e.Key, e.Revision))
		}
		return true
	}) {
		return false
	}
	snap.Scan(namespace, after, func(e *cache.Entry) bool {
		if meets(t, e, choices) {
			want = append(want, fmt.Sprint(e.Key, e.Revision))
		}
		return true
	})
	if !slices.Equal(got, want) {
		t.Errorf("%v in %q after %v at %d: an index finds\n%v, want\n%v", choices, namespace, after, snap.Revision(), got, want)
	}
	return true
}
