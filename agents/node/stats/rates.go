package stats

import "time"

const (
	// shortest is the time between two figures below which what was used between them says little.
	shortest = time.Second
	// forgotten is when a figure is no longer the start of a rate.
	forgotten = 10 * time.Minute
)

// rates tell how fast something grows of which only the sum is known, by what it is called.
type rates map[string]*sample

type sample struct {
	at   time.Time
	sum  uint64
	rate *uint64 // a second
}

// of is the rate since the last question that is worth something; nil: not known yet.
func (r rates) of(name string, at time.Time, sum uint64) *uint64 {
	last := r[name]
	if last == nil || sum < last.sum || at.Sub(last.at) > forgotten {
		r[name] = &sample{at: at, sum: sum}
		return nil
	}
	if after := at.Sub(last.at); after >= shortest {
		rate := uint64(float64(sum-last.sum) / after.Seconds())
		*last = sample{at: at, sum: sum, rate: &rate}
	}
	return last.rate
}

// forget drops what nobody asked for any more.
func (r rates) forget(now time.Time) {
	for name, s := range r {
		if now.Sub(s.at) > forgotten {
			delete(r, name)
		}
	}
}
