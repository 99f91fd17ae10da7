package sqlite

import (
	"context"
	"fmt"
	"slices"

	"github.com/rowlock-io/rowlock/storage"
)

// List returns a part of a collection: the rows of objects, merged in key order with how the asked state differs.
func (s *Store) List(ctx context.Context, sel storage.Selector, opts storage.ListOptions) (storage.Page, error) {
	what := "list " + sel.Resource
	v, err := s.view(ctx, what)
	if err != nil {
		return storage.Page{}, err
	}
	defer v.done()
	page := storage.Page{Position: v.pos}
	if opts.Revision != 0 {
		if err := v.check(opts.Revision); err != nil {
			return storage.Page{}, fmt.Errorf("%s: %w", what, err)
		}
		page.Revision = opts.Revision
	}
	if err := v.list(ctx, &page, sel, opts); err != nil {
		return storage.Page{}, explain(what, err)
	}
	return page, nil
}

func (v *view) list(ctx context.Context, page *storage.Page, sel storage.Selector, opts storage.ListOptions) error {
	patches, err := v.patches(ctx, sel, opts.Revision)
	if err != nil {
		return err
	}
	patched := make([]storage.Key, 0, len(patches))
	for key := range patches {
		if key.Compare(opts.After) > 0 {
			patched = append(patched, key)
		}
	}
	slices.SortFunc(patched, storage.Key.Compare)

	full := func() bool {
		page.More = opts.Limit > 0 && len(page.Objects) == opts.Limit
		return page.More
	}
	// addPatched adds those of the patched keys that come before a row's key.
	addPatched := func(before *storage.Key) error {
		for len(patched) > 0 && (before == nil || patched[0].Compare(*before) < 0) {
			obj, exists, err := v.state(ctx, patched[0], patches[patched[0]])
			if err != nil {
				return err
			}
			if exists {
				if full() {
					return nil
				}
				page.Objects = append(page.Objects, obj)
			}
			patched = patched[1:]
		}
		return nil
	}

	rows, err := v.objects(ctx, sel, opts.After)
	if err != nil || rows == nil {
		return err
	}
	defer rows.close()
	var last storage.Key
	for {
		ok, err := rows.next()
		if err != nil {
			return err
		}
		if !ok {
			return addPatched(nil)
		}
		key := storage.Key{Resource: text(rows.dest[0]), Namespace: text(rows.dest[1]), Name: text(rows.dest[2])}
		// Rows of a list share these strings; kept once, they cost a cache nothing.
		if key.Resource == last.Resource {
			key.Resource = last.Resource
		}
		if key.Namespace == last.Namespace {
			key.Namespace = last.Namespace
		}
		last = key
		if err := addPatched(&key); err != nil || page.More {
			return err
		}
		if _, ok := patches[key]; ok {
			continue // it has another state, or none, and its turn comes by its key
		}
		if full() {
			return nil
		}
		page.Objects = append(page.Objects, storage.Object{Key: key, Revision: revision(rows.dest[3]), Data: notNil(blob(rows.dest[4]))})
	}
}

// objects reads the rows of a selection behind a key, in key order; nil when there can be none.
func (v *view) objects(ctx context.Context, sel storage.Selector, after storage.Key) (*rows, error) {
	st, id := v.c.db.st, v.c.id
	// Before the selection's first key nothing needs to be skipped.
	first := storage.Key{Resource: sel.Resource}
	if sel.Resource != "" {
		first.Namespace = sel.Namespace
	}
	if after.Compare(first) < 0 {
		after = first
	}
	switch {
	case sel.Resource == "":
		return v.r.query(ctx, st.ListAll, id, after.Resource, after.Namespace, after.Name, sel.Namespace, sel.Name)
	case after.Resource > sel.Resource:
		return nil, nil
	case sel.Namespace == "":
		return v.r.query(ctx, st.ListResource, id, sel.Resource, after.Namespace, after.Name, sel.Namespace, sel.Name)
	case after.Namespace > sel.Namespace:
		return nil, nil
	default:
		return v.r.query(ctx, st.ListNamespace, id, sel.Resource, sel.Namespace, after.Name, sel.Namespace, sel.Name)
	}
}
