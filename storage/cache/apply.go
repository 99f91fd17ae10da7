package cache

import (
	"slices"

	"github.com/rowlock-io/rowlock/storage"
)

const (
	maxPending      = 256      // commits
	maxPendingBytes = 16 << 20 // of their data
)

// commit is what Apply was given.
type commit struct {
	ops  []storage.Op
	aux  []any
	done storage.Committed
	size int64
}

// pending holds this replica's own commits that came before the log in front of them was read, by Before. A commit
// that finds no room is left to the log reader, which then reads its data from the database.
type pending struct {
	commits []commit
	size    int64
}

// add keeps a commit; false when there is no room.
func (p *pending) add(c commit) bool {
	for i := range c.ops {
		c.size += int64(len(c.ops[i].Data)) + changeOverhead
	}
	if len(p.commits) >= maxPending || p.size+c.size > maxPendingBytes {
		return false
	}
	i, _ := slices.BinarySearchFunc(p.commits, c.done.Before.Revision, func(a commit, rev storage.Revision) int {
		if a.done.Before.Revision < rev {
			return -1
		}
		return 1
	})
	p.commits = slices.Insert(p.commits, i, c)
	p.size += c.size
	return true
}

// gap is how many revisions lie between the cache and the first pending commit.
func (p *pending) gap(at storage.Revision) (revisions int, waiting bool) {
	if len(p.commits) == 0 || p.commits[0].done.Before.Revision <= at {
		return 0, false
	}
	return int(min(p.commits[0].done.Before.Revision-at, pageSize)), true
}

// aux finds the aux value for a revision that the log brought before the commit itself could be applied.
func (p *pending) aux(rev storage.Revision) any {
	for i := range p.commits {
		c := &p.commits[i]
		if rev <= c.done.Before.Revision {
			break
		}
		if rev > c.done.Head {
			continue
		}
		for j, res := range c.done.Results {
			if res.Err == nil && res.Revision == rev && j < len(c.aux) {
				return c.aux[j]
			}
		}
	}
	return nil
}

// pop takes the first commit if it begins at or before the position.
func (p *pending) pop(at storage.Revision) (commit, bool) {
	if len(p.commits) == 0 || p.commits[0].done.Before.Revision > at {
		return commit{}, false
	}
	c := p.commits[0]
	p.size -= c.size
	p.commits = slices.Delete(p.commits, 0, 1)
	return c, true
}

func (p *pending) clear() { *p = pending{} }

// Apply publishes this replica's own commit at once, without reading it back; aux[i], when there is one, becomes the
// aux value of the entry that ops[i] made. The cache keeps the data of ops. When the cache has not reached
// done.Before, the log reader first fetches the stretch in between, and Apply does not wait for it. When the cache has
// it already, or stands in another epoch, nothing happens.
func (c *Cache) Apply(ops []storage.Op, aux []any, done storage.Committed) {
	if done.Head == done.Before.Revision {
		return // no op succeeded
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.world.Load()
	if w == nil || c.closed || c.broken || done.Before.Epoch != w.epoch {
		// Whether the epoch is new to the cache or the commit old: the log knows.
		signal(c.wakeLog)
		return
	}
	c.sawHead(done.Head)
	own := commit{ops: ops, aux: aux, done: done}
	switch at := w.revision(); {
	case done.Before.Revision == at:
		if c.applyOne(w, &own) != nil || c.applyPending(w) != nil {
			signal(c.wakeLog) // the reader finds the world broken and loads afresh
		}
	case done.Before.Revision > at:
		own.ops, own.aux = slices.Clone(ops), slices.Clone(aux) // the caller's slices are the caller's
		own.done.Results = slices.Clone(done.Results)
		if c.pending.add(own) {
			signal(c.wakeGap)
		} else {
			signal(c.wakeLog)
		}
	case done.Head > at:
		signal(c.wakeLog) // the reader is in the middle of it
	}
}

// applyPending publishes pending commits for as long as they follow on the position. The caller holds mu.
func (c *Cache) applyPending(w *world) error {
	for {
		own, ok := c.pending.pop(w.revision())
		if !ok {
			return nil
		}
		if own.done.Before.Epoch != w.epoch || own.done.Before.Revision != w.revision() {
			// The log reader was faster; it goes on if it got only a part.
			if own.done.Head > w.revision() {
				signal(c.wakeLog)
			}
			continue
		}
		if err := c.applyOne(w, &own); err != nil {
			return err
		}
	}
}

// applyOne publishes a commit that follows on the position. The caller holds mu.
func (c *Cache) applyOne(w *world, own *commit) error {
	rows := make([]row, 0, len(own.ops))
	for i := range own.ops {
		res := &own.done.Results[i]
		if res.Err != nil {
			continue
		}
		op := &own.ops[i]
		o := row{
			key: op.Key, rev: res.Revision, prevRev: op.Expect, verb: op.Verb,
			data: op.Data, time: own.done.Time,
		}
		if i < len(own.aux) {
			o.aux = own.aux[i]
		}
		rows = append(rows, o)
	}
	return c.publish(w, rows, own.done.Head)
}
