package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"

	"github.com/rowlock-io/rowlock/storage"
)

// view is one consistent state to read from: what is on disk up to some revision, and the relaxed changes after it.
type view struct {
	c     *cluster
	r     *conn
	done  func()
	pos   storage.Position
	disk  storage.Revision // what r sees
	floor storage.Revision
	total int64            // bytes of all changes ever made, as r sees it
	tail  []storage.Change // in (disk, pos]
}

// view takes the changes in memory first and the state of the disk second. A flush in between makes some of them
// appear in both, which their revisions tell; the other way round they could be in neither.
func (s *Store) view(ctx context.Context, what string) (*view, error) {
	c := s.c
	c.mu.RLock()
	err := s.usable(ctx, what)
	pos, tail := c.pos, c.tail
	c.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	r, done, err := c.db.reader(ctx, what)
	if err != nil {
		return nil, err
	}
	var row [4]driver.Value
	found, err := r.one(ctx, row[:], c.db.st.Position, c.id)
	if err != nil || !found {
		done()
		if err == nil {
			return nil, fmt.Errorf("%s: cluster %q: %w", what, c.name, storage.ErrNotFound)
		}
		return nil, explain(what, err)
	}
	v := &view{c: c, r: r, done: done, pos: pos, disk: revision(row[0]), floor: revision(row[2]), total: integer(row[3])}
	for len(tail) > 0 && tail[0].Revision <= v.disk {
		tail = tail[1:]
	}
	v.tail = tail
	if v.disk > pos.Revision {
		v.pos.Revision = v.disk
		c.seen(v.disk)
	}
	return v, nil
}

// check refuses revisions that cannot be read.
func (v *view) check(rev storage.Revision) error {
	switch {
	case rev > v.pos.Revision:
		return fmt.Errorf("%w: asked for %d, head is %d", storage.ErrFuture, rev, v.pos.Revision)
	case rev < v.floor:
		return fmt.Errorf("%w: asked for %d, kept from %d", storage.ErrCompacted, rev, v.floor)
	}
	return nil
}

// patch says how a key at the view's revision differs from its row in objects. A zero Object: it does not exist.
// Where fetch is set, the state is the one before that change, still to be read from the log.
type patch struct {
	obj   storage.Object
	fetch storage.Revision
}

// patches returns all differences within a selection between objects on disk and the state at a revision (0: now).
func (v *view) patches(ctx context.Context, sel storage.Selector, at storage.Revision) (map[storage.Key]patch, error) {
	out := map[storage.Key]patch{}
	if at == 0 || at >= v.disk {
		for _, ch := range v.tail {
			if at != 0 && ch.Revision > at {
				break
			}
			if !sel.Matches(ch.Key) {
				continue
			}
			p := patch{}
			if ch.Verb != storage.Delete {
				p.obj = storage.Object{Key: ch.Key, Revision: ch.Revision, Data: ch.Data}
			}
			out[ch.Key] = p
		}
		return out, nil
	}
	r, err := v.r.query(ctx, v.c.db.st.ChangedSince, v.c.id, int64(at), sel.Resource, sel.Namespace, sel.Name)
	if err != nil {
		return nil, err
	}
	defer r.close()
	for {
		ok, err := r.next()
		if err != nil || !ok {
			return out, err
		}
		key := storage.Key{Resource: text(r.dest[0]), Namespace: text(r.dest[1]), Name: text(r.dest[2])}
		out[key] = patch{fetch: revision(r.dest[3])}
	}
}

// state resolves a patch; false when the key did not exist.
func (v *view) state(ctx context.Context, key storage.Key, p patch) (storage.Object, bool, error) {
	if p.fetch == 0 {
		return p.obj, p.obj.Revision != 0, nil
	}
	var row [2]driver.Value
	found, err := v.r.one(ctx, row[:], v.c.db.st.Before, v.c.id, int64(p.fetch))
	if err != nil || !found {
		return storage.Object{}, false, err
	}
	obj := storage.Object{Key: key, Revision: revision(row[0]), Data: notNil(blob(row[1]))}
	return obj, obj.Revision != 0, nil
}
