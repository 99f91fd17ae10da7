package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/rowlock-io/rowlock/storage"
)

// judged is a commit that is decided but not made.
type judged struct {
	done    storage.Committed
	changes []storage.Change // of the ops that succeed; Prev is only there if asked for
	sizes   []int64          // what each of changes adds to cluster.logged
}

// Commit judges each op against the present, relaxed writes included, and writes those that succeed in one
// transaction, or, when all are relaxed, only to memory.
func (s *Store) Commit(ctx context.Context, ops []storage.Op) (storage.Committed, error) {
	if err := storage.CheckOps(ops); err != nil {
		return storage.Committed{}, fmt.Errorf("commit: %w", err)
	}
	c := s.c
	w, unlock, err := c.db.lockWriter(ctx, "commit")
	if err != nil {
		return storage.Committed{}, err
	}
	defer unlock()

	c.mu.RLock()
	err = s.usable(ctx, "commit")
	relaxed, before := c.mayRelax(ops), c.pos
	c.mu.RUnlock()
	if err != nil {
		return storage.Committed{}, err
	}
	// From here on ctx does not count: a transaction is not cut in the middle, and it is short.
	j, err := c.judge(w, before, ops, relaxed)
	if err != nil {
		return storage.Committed{}, err
	}
	switch {
	case len(j.changes) == 0:
	case relaxed:
		err = c.hold(w, s, j)
	default:
		err = c.writeNow(w, s, j)
	}
	if err != nil {
		return storage.Committed{}, err
	}
	return j.done, nil
}

// judge needs the writer, so that nothing changes until its verdicts are carried out.
func (c *cluster) judge(w *conn, before storage.Position, ops []storage.Op, withPrev bool) (*judged, error) {
	// Microseconds, so that the log gives the same time back.
	now := time.UnixMicro(time.Now().UnixMicro())
	j := &judged{
		done:    storage.Committed{Before: before, Head: before.Revision, Time: now, Results: make([]storage.Result, len(ops))},
		changes: make([]storage.Change, 0, len(ops)),
		sizes:   make([]int64, 0, len(ops)),
	}
	for i := range ops {
		op := &ops[i]
		old, size, err := c.find(w, op.Key, withPrev)
		if err != nil {
			return nil, explain("commit: find "+op.Key.String(), err)
		}
		if err := storage.Judge(op, old.Revision); err != nil {
			j.done.Results[i].Err = err
			continue
		}
		j.done.Head++
		j.done.Results[i].Revision = j.done.Head
		ch := storage.Change{
			Key: op.Key, Revision: j.done.Head, Verb: op.Verb, Time: now,
			Prev: old.Data, PrevRevision: old.Revision,
		}
		if op.Verb != storage.Delete {
			ch.Data = notNil(op.Data)
		}
		j.changes = append(j.changes, ch)
		j.sizes = append(j.sizes, int64(size+len(ch.Data)+len(ch.Resource)+len(ch.Namespace)+len(ch.Name)))
	}
	return j, nil
}

// find returns the present state of a key (revision 0: none) and the size of its data; the data itself if asked for.
func (c *cluster) find(w *conn, key storage.Key, withData bool) (storage.Object, int, error) {
	if held, ok := c.state[key]; ok {
		if held.Data == nil {
			return storage.Object{}, 0, nil
		}
		return held, len(held.Data), nil
	}
	st := c.db.st.FindObject
	if withData {
		st = c.db.st.GetObject
	}
	var row [2]driver.Value
	found, err := w.one(context.Background(), row[:], st, c.id, key.Resource, key.Namespace, key.Name)
	if err != nil || !found {
		return storage.Object{}, 0, err
	}
	obj := storage.Object{Key: key, Revision: revision(row[0])}
	if withData {
		obj.Data = notNil(blob(row[1]))
		return obj, len(obj.Data), nil
	}
	return obj, int(integer(row[1])), nil
}

// writeNow writes what is held in memory, then the judged changes, in one transaction.
func (c *cluster) writeNow(w *conn, s *Store, j *judged) error {
	var next plan
	err := c.db.transact(w, func() error {
		if err := c.writeTail(w); err != nil {
			return err
		}
		logged := c.logged
		for i := range j.changes {
			if err := c.writeChange(w, &j.changes[i], logged); err != nil {
				return explain("commit: write "+j.changes[i].Key.String(), err)
			}
			logged += j.sizes[i]
		}
		next = c.advance(j.done.Head, logged)
		return c.writeAdvance(w, next)
	})
	if err != nil {
		return err
	}
	c.settle(next)
	c.mu.RLock()
	c.wakeOthers(s)
	c.mu.RUnlock()
	return nil
}

var errMoved = errors.New("the row is not as it was judged a moment ago; is another program writing to the database?")

// writeChange writes one change whose state before is in objects.
func (c *cluster) writeChange(w *conn, ch *storage.Change, logged int64) error {
	st := c.db.st
	rev, verb, at := int64(ch.Revision), int64(ch.Verb), ch.Time.UnixMicro()
	var n, m int64
	var err error
	switch ch.Verb {
	case storage.Create:
		n, err = w.exec(st.InsertChange, c.id, ch.Resource, ch.Namespace, ch.Name, rev, ch.Data, verb, at, logged, int64(0), nil)
		if err == nil {
			m, err = w.exec(st.InsertObject, c.id, ch.Resource, ch.Namespace, ch.Name, rev, ch.Data)
		}
	case storage.Update:
		n, err = w.exec(st.InsertChangeOver, c.id, ch.Resource, ch.Namespace, ch.Name, rev, ch.Data, verb, at, logged)
		if err == nil {
			m, err = w.exec(st.UpdateObject, c.id, ch.Resource, ch.Namespace, ch.Name, rev, ch.Data)
		}
	case storage.Delete:
		n, err = w.exec(st.InsertChangeOver, c.id, ch.Resource, ch.Namespace, ch.Name, rev, nil, verb, at, logged)
		if err == nil {
			m, err = w.exec(st.DeleteObject, c.id, ch.Resource, ch.Namespace, ch.Name)
		}
	}
	if err == nil && (n != 1 || m != 1) {
		err = errMoved
	}
	return err
}

// notNil keeps "empty" apart from "absent", which is what nil means in this package.
func notNil(data []byte) []byte {
	if data == nil {
		return []byte{}
	}
	return data
}
