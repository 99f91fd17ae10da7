package storagetest

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/go-cmp/cmp"

	"github.com/rowlock-io/rowlock/storage"
)

// run is a random run under way.
type run struct {
	ctx      context.Context
	model    storage.Store
	replicas []storage.Store
}

func (r *run) step(s step) error {
	replica := r.replicas[s.Replica%len(r.replicas)]
	head, err := r.model.Head(r.ctx)
	if err != nil {
		return err
	}
	at := head.Revision - min(storage.Revision(s.Back), head.Revision-1)
	if s.Back < 0 {
		at = head.Revision + 1
	}
	switch s.Do {
	case "commit":
		return r.commit(replica, s)
	case "get":
		if s.Back == 0 {
			at = 0
		}
		return both(r.model, replica, func(st storage.Store) (storage.Object, error) {
			return st.Get(r.ctx, scriptKey(s.Key), at)
		})
	case "list":
		if s.Back == 0 {
			at = 0
		}
		return both(r.model, replica, func(st storage.Store) ([]storage.Page, error) { return r.pages(st, s, at) })
	case "changes":
		return both(r.model, replica, func(st storage.Store) ([]storage.Change, error) { return r.follow(st, at, s.Limit) })
	case "compact":
		return both(r.model, replica, func(st storage.Store) (storage.Revision, error) {
			if err := st.Compact(r.ctx, at); err != nil {
				return 0, err
			}
			return st.Floor(r.ctx)
		})
	case "head":
		return both(r.model, replica, func(st storage.Store) (storage.Revision, error) {
			pos, err := st.Head(r.ctx)
			return pos.Revision, err
		})
	}
	return fmt.Errorf("unknown step %q", s.Do)
}

func (r *run) commit(replica storage.Store, s step) error {
	ops := make([]storage.Op, len(s.Ops))
	for i, o := range s.Ops {
		op := storage.Op{Key: scriptKey(o.Key), Verb: o.Verb, Relaxed: o.Relaxed}
		if o.Verb != storage.Delete {
			op.Data = fmt.Appendf(nil, `{"value":%d,"more":"%0*d"}`, o.Value, o.Value%97, 0)
		}
		if o.Verb != storage.Create {
			// What the key has, or for a key that is absent, something that it does not have.
			op.Expect = 1
			if now, err := r.model.Get(r.ctx, op.Key, 0); err == nil {
				op.Expect = now.Revision
			}
			switch o.Expect {
			case "stale":
				op.Expect--
			case "future":
				op.Expect++
			}
		}
		ops[i] = op
	}
	type answer struct {
		Before, Head storage.Revision
		Revisions    []storage.Revision
		Errors       []string
	}
	return both(r.model, replica, func(st storage.Store) (answer, error) {
		done, err := st.Commit(r.ctx, ops)
		a := answer{Before: done.Before.Revision, Head: done.Head}
		for _, res := range done.Results {
			a.Revisions = append(a.Revisions, res.Revision)
			a.Errors = append(a.Errors, class(res.Err))
		}
		return a, err
	})
}

// pages reads a list to its end. Epochs are the driver's own.
func (r *run) pages(st storage.Store, s step, at storage.Revision) ([]storage.Page, error) {
	var out []storage.Page
	opts := storage.ListOptions{Revision: at, Limit: s.Limit}
	for {
		p, err := st.List(r.ctx, scriptSelector(s.Sel), opts)
		if err != nil {
			return nil, err
		}
		p.Epoch = 0
		out = append(out, p)
		if !p.More {
			return out, nil
		}
		opts.Revision, opts.After = p.Revision, p.Objects[len(p.Objects)-1].Key
	}
}

// follow reads the log to its end. Where batches are cut is the driver's own business, within the limit.
func (r *run) follow(st storage.Store, after storage.Revision, limit int) ([]storage.Change, error) {
	var out []storage.Change
	for {
		b, err := st.Changes(r.ctx, after, limit)
		if err != nil {
			return nil, err
		}
		if limit > 0 && len(b.Changes) > limit {
			return nil, fmt.Errorf("%d changes, asked for at most %d", len(b.Changes), limit)
		}
		out = append(out, b.Changes...)
		if len(b.Changes) == 0 {
			if head, err := st.Head(r.ctx); err != nil || b.Revision != head.Revision {
				return nil, fmt.Errorf("the last batch speaks for %d, the head is %d (error %w)", b.Revision, head.Revision, err)
			}
			return out, nil
		}
		after = b.Revision
	}
}

// both asks the model and a replica the same and compares the answers.
func both[T any](model, replica storage.Store, ask func(storage.Store) (T, error)) error {
	want, wantErr := ask(model)
	got, gotErr := ask(replica)
	if class(wantErr) != class(gotErr) {
		return fmt.Errorf("error is %q, want %q", class(gotErr), class(wantErr))
	}
	if wantErr != nil {
		return nil
	}
	if diff := cmp.Diff(want, got, sameChange); diff != "" {
		return fmt.Errorf("answers differ (-model +replica):\n%s", diff)
	}
	return nil
}

// class is what callers can tell errors apart by.
func class(err error) string {
	if err == nil {
		return ""
	}
	for _, known := range []error{
		storage.ErrNotFound, storage.ErrExists, storage.ErrConflict, storage.ErrCompacted, storage.ErrFuture, storage.ErrTooLarge,
	} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return err.Error()
}
