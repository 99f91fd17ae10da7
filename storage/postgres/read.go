package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rowlock-io/rowlock/storage"
)

// Head returns the newest position, by primary key.
func (s *Store) Head(ctx context.Context) (pos storage.Position, err error) {
	const what = "head"
	ctx, end, err := s.begin(ctx, what)
	if err != nil {
		return pos, err
	}
	defer end()
	err = s.current(ctx, what, func() (current bool, err error) {
		err = s.row(ctx, what, s.db.sql.Head, []any{s.id}, &pos.Revision, &pos.Epoch, &current)
		return current, err
	})
	return pos, err
}

// Get returns one object.
func (s *Store) Get(ctx context.Context, key storage.Key, at storage.Revision) (storage.Object, error) {
	what := "get " + key.String()
	ctx, end, err := s.begin(ctx, what)
	if err != nil {
		return storage.Object{}, err
	}
	defer end()
	obj := storage.Object{Key: key}
	if at == 0 {
		var rev *int64
		err := s.row(ctx, what, s.db.sql.Get, []any{s.id, key.Resource, key.Namespace, key.Name}, &rev, &obj.Data)
		if err == nil && rev != nil {
			obj.Revision = storage.Revision(*rev)
		}
		return found(what, obj, err)
	}
	err = s.current(ctx, what, func() (bool, error) {
		var w where
		err := s.row(ctx, what, s.db.sql.GetAt, []any{s.id, key.Resource, key.Namespace, key.Name, int64(at)},
			&w.head, &w.epoch, &w.floor, &w.current, &obj.Revision, &obj.Data)
		if err == nil && w.current {
			err = w.covers(what, at)
		}
		return w.current, err
	})
	return found(what, obj, err)
}

func found(what string, obj storage.Object, err error) (storage.Object, error) {
	if err == nil && obj.Revision == 0 {
		err = fmt.Errorf("%s: %w", what, storage.ErrNotFound)
	}
	if err != nil {
		return storage.Object{}, err
	}
	return obj, nil
}

// where is what a read learns of its cluster, in the same snapshot.
type where struct {
	head, floor storage.Revision
	epoch       uint64
	current     bool
}

// covers tells whether a revision can be read exactly.
func (w *where) covers(what string, at storage.Revision) error {
	switch {
	case at > w.head:
		return fmt.Errorf("%s: %w: asked for %d, head is %d", what, storage.ErrFuture, at, w.head)
	case at < w.floor:
		return fmt.Errorf("%s: %w: asked for %d, kept from %d", what, storage.ErrCompacted, at, w.floor)
	}
	return nil
}

// List returns a part of a collection.
func (s *Store) List(ctx context.Context, sel storage.Selector, opts storage.ListOptions) (storage.Page, error) {
	what := "list " + sel.Resource
	ctx, end, err := s.begin(ctx, what)
	if err != nil {
		return storage.Page{}, err
	}
	defer end()
	var limit *int64 // one more is asked for, to know whether there is more
	if opts.Limit > 0 {
		n := int64(opts.Limit) + 1
		limit = &n
	}
	after, upTo := bounds(sel, opts.After)
	sql, args := s.db.sql.List, []any{
		s.id, after.Resource, after.Namespace, after.Name, upTo.Resource, upTo.Namespace, sel.Namespace, sel.Name, limit,
	}
	if opts.Revision != 0 {
		sql, args = s.db.sql.ListAt, append(args, int64(opts.Revision))
	}
	var page storage.Page
	err = s.current(ctx, what, func() (bool, error) {
		var w where
		var err error
		w, page.Objects, err = s.rows(ctx, what, sql, args)
		if err != nil || !w.current {
			return w.current, err
		}
		page.Position = storage.Position{Epoch: w.epoch, Revision: w.head}
		if opts.Revision != 0 {
			page.Revision = opts.Revision
			err = w.covers(what, opts.Revision)
		}
		return true, err
	})
	if err != nil {
		return storage.Page{}, err
	}
	if opts.Limit > 0 && len(page.Objects) > opts.Limit {
		page.Objects, page.More = page.Objects[:opts.Limit], true
	}
	return page, nil
}

// greatest sorts behind all that a key may hold: it is the greatest code point.
const greatest = "\U0010FFFF"

// bounds are the ends of the range of keys that holds a collection: strictly behind the one, and with resource and
// namespace at most those of the other.
func bounds(sel storage.Selector, after storage.Key) (storage.Key, storage.Key) {
	from, upTo := storage.Key{}, storage.Key{Resource: greatest, Namespace: greatest}
	if sel.Resource != "" {
		from.Resource, upTo.Resource = sel.Resource, sel.Resource
		if sel.Namespace != "" {
			from.Namespace, upTo.Namespace = sel.Namespace, sel.Namespace
		}
	}
	if after.Compare(from) > 0 {
		from = after
	}
	return from, upTo
}

// rows runs a list statement: what it says of the cluster, and the objects in key order.
func (s *Store) rows(ctx context.Context, what, sql string, args []any) (w where, objects []storage.Object, err error) {
	err = s.db.query(ctx, what, func(c *pgxpool.Conn) error {
		objects = nil
		var in whereRow
		var key keyRow
		var revision pgtype.Int8
		rows, err := c.Query(ctx, sql, s.db.args(args...)...)
		if err != nil {
			return err
		}
		defer rows.Close()
		there := false
		for rows.Next() {
			there = true
			var data []byte
			if err := rows.Scan(&in.head, &in.epoch, &in.floor, &in.current,
				&key.resource, &key.namespace, &key.name, &revision, &data); err != nil {
				return err
			}
			w = in.where()
			if !revision.Valid {
				break // the row that is there when there are no objects
			}
			objects = append(objects, storage.Object{Key: key.key(), Revision: storage.Revision(revision.Int64), Data: data})
		}
		rows.Close()
		if err := rows.Err(); err != nil {
			return err
		}
		if !there {
			return s.gone(what)
		}
		return nil
	})
	// They come in order, but SQL does not promise it for a join.
	byKey := func(a, b storage.Object) int { return a.Key.Compare(b.Key) }
	if !slices.IsSortedFunc(objects, byKey) {
		slices.SortFunc(objects, byKey)
	}
	return w, objects, err
}
