package postgres

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rowlock-io/rowlock/storage"
)

// registry holds the open handles by cluster.
type registry struct {
	mu     sync.Mutex
	stores map[int64]map[*Store]struct{}
}

func (r *registry) add(s *Store) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stores == nil {
		r.stores = map[int64]map[*Store]struct{}{}
	}
	if r.stores[s.id] == nil {
		r.stores[s.id] = map[*Store]struct{}{}
	}
	r.stores[s.id][s] = struct{}{}
}

func (r *registry) remove(s *Store) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.stores[s.id], s)
	if len(r.stores[s.id]) == 0 {
		delete(r.stores, s.id)
	}
}

// of returns the handles of a cluster; 0 means of all.
func (r *registry) of(cluster int64) (out []*Store) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, stores := range r.stores {
		if cluster != 0 && cluster != id {
			continue
		}
		for s := range stores {
			out = append(out, s)
		}
	}
	return out
}

// seen returns the open clusters, each with the least revision that one of its handles has seen.
func (r *registry) seen() (ids, revisions []int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, stores := range r.stores {
		least := int64(-1)
		for s := range stores {
			if known := int64(s.known()); least < 0 || known < least {
				least = known
			}
		}
		ids, revisions = append(ids, id), append(revisions, least)
	}
	return ids, revisions
}

func (s *Store) known() storage.Revision {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen
}

// signal wakes whoever follows this handle.
func (s *Store) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// foreign takes note that the database's counter is further than what this handle knows of.
func (s *Store) foreign(head storage.Revision) {
	s.mu.Lock()
	news := head > s.seen
	s.seen = max(s.seen, head)
	s.mu.Unlock()
	if news {
		s.signal()
	}
}

// own takes note of this handle's own commit. It needs no signal, unless it shows that others came before it.
func (s *Store) own(done storage.Committed) {
	s.mu.Lock()
	news := done.Before.Revision > s.seen
	s.seen = max(s.seen, done.Head)
	s.mu.Unlock()
	if news {
		s.signal()
	}
}

// committed spreads the word of a commit.
func (d *Database) committed(by *Store, done storage.Committed) {
	by.own(done)
	if done.Head == done.Before.Revision {
		return
	}
	for _, s := range d.stores.of(by.id) {
		if s != by {
			s.foreign(done.Head)
		}
	}
	if !d.audience.alone(time.Now()) {
		d.news.add(by.id, done.Head)
	}
}

// pollLoop is the guarantee behind Wake: with or without notifications, it asks for the counters of all open clusters
// at once, and nothing when none is open: every PollInterval, or every second one while notifications are heard.
func (d *Database) pollLoop() {
	ctx := d.closing
	failed := false
	for odd := true; wait(ctx, d.cfg.PollInterval); odd = !odd {
		if odd && !failed && d.hears.Load() {
			continue
		}
		err := d.poll(ctx)
		if err == nil && failed {
			// Counters may be as they were, but an epoch may have begun.
			for _, s := range d.stores.of(0) {
				s.signal()
			}
		}
		if err != nil && !failed && ctx.Err() == nil {
			d.log.Warn("Asking for new changes went wrong", "error", err)
		}
		failed = err != nil
	}
}

func (d *Database) poll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, max(5*time.Second, 2*d.cfg.PollInterval))
	defer cancel()
	ids, revisions := d.stores.seen()
	if len(ids) == 0 {
		return nil
	}
	type moved struct{ ID, Revision int64 }
	var news []moved
	err := d.query(ctx, "poll", func(c *pgxpool.Conn) error {
		rows, err := c.Query(ctx, d.sql.Poll, d.args(ids, revisions, d.cfg.SegmentAge.Seconds(), d.cfg.SegmentBytes)...)
		if err != nil {
			return err
		}
		news, err = pgx.CollectRows(rows, pgx.RowToStructByPos[moved])
		return err
	})
	asked := make(map[int64]int64, len(ids))
	for i, id := range ids {
		asked[id] = revisions[i]
	}
	for _, m := range news {
		if m.ID == 0 {
			d.roll(ctx)
			continue
		}
		for _, s := range d.stores.of(m.ID) {
			if m.Revision < asked[m.ID] {
				s.signal() // the database came back with less: an epoch has to begin
			}
			s.foreign(storage.Revision(m.Revision))
		}
	}
	return err
}
