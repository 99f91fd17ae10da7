package replicas

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// write is one that was acknowledged.
type write struct {
	version      uint64
	replica      int
	began, acked time.Time
}

// keysEach is how many objects each writer has, which nobody else writes.
const keysEach = 20

// key is the name of an object.
func key(writer, i int) string { return fmt.Sprintf("w%03d-%02d", writer, i%keysEach) }

// load writes for some time: so many a second altogether, or as many as the writers can when that is 0. Writers are spread
// over the replicas. It returns all writes in the order of their versions.
func load(ctx context.Context, replicas []*replica, writers, rate int, length time.Duration) ([]write, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	payload := strings.Repeat("x", 256)
	var mu sync.Mutex
	var all []write
	var wg sync.WaitGroup
	start := time.Now()
	for w := range writers {
		wg.Go(func() {
			var own []write
			for i := 0; ; i++ {
				due := start
				if rate > 0 { // the writers' turns are spread too
					due = start.Add(time.Duration(i*writers+w) * time.Second / time.Duration(rate))
				}
				select {
				case <-ctx.Done():
					return
				case <-time.After(time.Until(due)):
				}
				began := time.Now()
				if began.Sub(start) >= length {
					break
				}
				to := w % len(replicas)
				// What is there already would be no change, and no event.
				v, err := replicas[to].put(ctx, key(w, i), fmt.Sprintf("%d %d %s", start.UnixNano(), i, payload))
				if err != nil {
					cancel(err)
					return
				}
				own = append(own, write{v, to, began, time.Now()})
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, own...)
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b write) int { return cmp.Compare(a.version, b.version) })
	return all, nil
}

// complete checks that a watcher saw exactly the writes, each once and in order.
func complete(writes []write, got []seen) error {
	for i, w := range writes {
		if i > 0 && writes[i-1].version == w.version {
			return fmt.Errorf("version %d was given to two writes", w.version)
		}
		if i >= len(got) || got[i].version != w.version {
			return fmt.Errorf("event %d of %d should be version %d; the watcher saw %v", i, len(writes), w.version, versions(got, i))
		}
	}
	if len(got) > len(writes) {
		return fmt.Errorf("the watcher saw %d changes more than there were: %v", len(got)-len(writes), versions(got, len(writes)))
	}
	return nil
}

// versions are those of some events around one.
func versions(got []seen, i int) []uint64 {
	var vs []uint64
	for _, s := range got[max(0, min(i, len(got))-2):min(i+3, len(got))] {
		vs = append(vs, s.version)
	}
	return vs
}

// spread shows the middle and the 99th percentile of durations.
func spread(ds []time.Duration) string {
	if len(ds) == 0 {
		return "–"
	}
	slices.Sort(ds)
	at := func(q float64) float64 {
		return float64(ds[min(len(ds)-1, int(q*float64(len(ds))))].Microseconds()) / 1000
	}
	return fmt.Sprintf("%.1f / %.1f", at(0.5), at(0.99))
}
