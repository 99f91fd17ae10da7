package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rowlock-io/rowlock/storage"
)

const (
	// margin is how many revisions are reserved ahead, so that reserving is rare.
	margin = 4096
	// What may be held in memory; beyond it a relaxed commit goes to the disk like any other.
	maxHeld      = 2048
	maxHeldBytes = 4 << 20
	// A flush that failed is tried again after this time.
	flushRetry = 5 * time.Second
)

// mayRelax tells whether a commit may be acknowledged from memory. It needs c.mu.
func (c *cluster) mayRelax(ops []storage.Op) bool {
	size := c.tailBytes
	for i := range ops {
		if !ops[i].Relaxed {
			return false
		}
		size += len(ops[i].Data)
	}
	return len(c.tail)+len(ops) <= maxHeld && size <= maxHeldBytes
}

// hold keeps judged changes in memory, where every read sees them.
func (c *cluster) hold(w *conn, s *Store, j *judged) error {
	c.relaxed = true
	if j.done.Head > c.reserved {
		// Before a revision can be seen that is not on disk, the disk must know that it is taken: after a crash the
		// counter goes on behind all of them.
		upTo := j.done.Head + margin
		err := c.db.transact(w, func() error {
			if _, err := w.exec(c.db.st.Reserve, c.id, int64(upTo)); err != nil {
				return explain("reserve revisions", err)
			}
			return nil
		})
		if err != nil {
			return err
		}
		c.reserved = upTo
	}
	c.mu.Lock()
	for i, ch := range j.changes {
		c.logged += j.sizes[i]
		c.tail = append(c.tail, ch)
		c.tailBytes += len(ch.Data)
		c.state[ch.Key] = storage.Object{Key: ch.Key, Revision: ch.Revision, Data: ch.Data}
	}
	c.pos.Revision = j.done.Head
	c.wakeOthers(s)
	c.mu.Unlock()
	c.db.armTimer(c.db.cfg.FlushInterval)
	return nil
}

// plan is what the cluster's row will say after a transaction.
type plan struct{ head, reserved, logged int64 }

// advance also renews the reservation of a cluster with relaxed writes, now that the row is written anyway.
func (c *cluster) advance(head storage.Revision, logged int64) plan {
	reserved := c.reserved
	if c.relaxed && reserved < head+margin/2 {
		reserved = head + margin
	}
	return plan{int64(head), int64(reserved), logged}
}

func (c *cluster) writeAdvance(w *conn, p plan) error {
	n, err := w.exec(c.db.st.Advance, c.id, p.head, p.reserved, p.logged)
	if err == nil && n != 1 {
		err = errMoved
	}
	if err != nil {
		return explain("commit: advance the revision", err)
	}
	return nil
}

// settle says in memory what is on disk now.
func (c *cluster) settle(p plan) {
	c.reserved = storage.Revision(p.reserved)
	c.logged = p.logged
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flushed = storage.Revision(p.head)
	c.pos.Revision = max(c.pos.Revision, c.flushed)
	c.tail, c.tailBytes = nil, 0
	clear(c.state)
}

// writeTail writes the changes held in memory, within a transaction.
func (c *cluster) writeTail(w *conn) error {
	st := c.db.st
	logged := c.logged
	for i := range c.tail {
		logged -= changeSize(&c.tail[i])
	}
	for i := range c.tail {
		ch := &c.tail[i]
		_, err := w.exec(st.InsertChange, c.id, ch.Resource, ch.Namespace, ch.Name, int64(ch.Revision), ch.Data,
			int64(ch.Verb), ch.Time.UnixMicro(), logged, int64(ch.PrevRevision), ch.Prev)
		// A key that changed many times is written to objects once.
		if err == nil && c.state[ch.Key].Revision == ch.Revision {
			if ch.Verb == storage.Delete {
				_, err = w.exec(st.DeleteObject, c.id, ch.Resource, ch.Namespace, ch.Name)
			} else {
				_, err = w.exec(st.UpsertObject, c.id, ch.Resource, ch.Namespace, ch.Name, int64(ch.Revision), ch.Data)
			}
		}
		if err != nil {
			return explain("write relaxed "+ch.Key.String(), err)
		}
		logged += changeSize(ch)
	}
	return nil
}

func changeSize(ch *storage.Change) int64 {
	return int64(len(ch.Data) + len(ch.Prev) + len(ch.Resource) + len(ch.Namespace) + len(ch.Name))
}

// opened returns the clusters in use.
func (d *Database) opened() []*cluster {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]*cluster, 0, len(d.clusters))
	for _, c := range d.clusters {
		all = append(all, c)
	}
	return all
}

// flushAll writes what all clusters hold in memory, in one transaction and so with one wait for the disk.
func (d *Database) flushAll(w *conn) error {
	plans := map[*cluster]plan{}
	for _, c := range d.opened() {
		if len(c.tail) > 0 {
			plans[c] = c.advance(c.tail[len(c.tail)-1].Revision, c.logged)
		}
	}
	if len(plans) == 0 {
		return nil
	}
	err := d.transact(w, func() error {
		for c, p := range plans {
			if err := errors.Join(c.writeTail(w), c.writeAdvance(w, p)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("flush relaxed writes: %w", err)
	}
	for c, p := range plans {
		c.settle(p)
	}
	return nil
}

// release gives back reserved revisions that nobody saw, once everything is on disk: the next Open then knows that
// nothing was lost.
func (d *Database) release(w *conn) error {
	var held []*cluster
	for _, c := range d.opened() {
		if len(c.tail) == 0 && c.reserved > c.flushed {
			held = append(held, c)
		}
	}
	if len(held) == 0 {
		return nil
	}
	return d.transact(w, func() error {
		for _, c := range held {
			if _, err := w.exec(d.st.Reserve, c.id, int64(c.flushed)); err != nil {
				return explain("release reserved revisions", err)
			}
		}
		return nil
	})
}

// armTimer makes sure that what is held in memory is flushed some time later. There is no timer while nothing is held.
func (d *Database) armTimer(after time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.flushing == nil {
		d.flushing = time.AfterFunc(after, d.flushByTimer)
	}
}

func (d *Database) stopTimer() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.flushing != nil {
		d.flushing.Stop()
	}
}

func (d *Database) flushByTimer() {
	d.mu.Lock()
	d.flushing = nil
	d.mu.Unlock()
	w, unlock, err := d.lockWriter(context.Background(), "flush")
	if err != nil {
		return // closed: Close flushes
	}
	defer unlock()
	if err := d.flushAll(w); err != nil {
		d.cfg.Log.Warn("Relaxed writes could not be flushed, trying again", "after", flushRetry, "err", err)
		d.armTimer(flushRetry)
	}
}
