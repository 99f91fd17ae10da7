package storagetest

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/memory"
)

// inMemory is a backend that may be made to forget.
type inMemory struct {
	Backend // the rest is not called
	db      *memory.Database
	wrap    func(storage.Store) storage.Store
}

func (b *inMemory) Open(t testing.TB) storage.Store {
	s, err := b.db.OpenCluster(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	return b.wrap(s)
}

func with(wrap func(storage.Store) storage.Store) func(testing.TB) Backend {
	return func(t testing.TB) Backend {
		b := &inMemory{db: memory.New(), wrap: wrap}
		if err := b.db.CreateCluster(t.Context(), "test"); err != nil {
			t.Fatal(err)
		}
		return b
	}
}

// lossy loses every change whose revision ends in 7.
type lossy struct{ storage.Store }

func (s lossy) Changes(ctx context.Context, after storage.Revision, limit int) (storage.Batch, error) {
	b, err := s.Store.Changes(ctx, after, limit)
	for i, ch := range b.Changes {
		if ch.Revision%10 == 7 {
			b.Changes = append(b.Changes[:i:i], b.Changes[i+1:]...)
			break
		}
	}
	return b, err
}

// forgiving takes an update of an old revision.
type forgiving struct{ storage.Store }

func (s forgiving) Commit(ctx context.Context, ops []storage.Op) (storage.Committed, error) {
	for i, op := range ops {
		if now, err := s.Get(ctx, op.Key, 0); err == nil && op.Verb == storage.Update {
			ops[i].Expect = now.Revision
		}
	}
	return s.Store.Commit(ctx, ops)
}

func TestModelFindsFaults(t *testing.T) {
	t.Parallel()
	steps := randomSteps(1, 400, modelReplicas)
	for name, tc := range map[string]struct {
		wrap   func(storage.Store) storage.Store
		faulty bool
	}{
		"correct":   {func(s storage.Store) storage.Store { return s }, false},
		"lossy":     {func(s storage.Store) storage.Store { return lossy{s} }, true},
		"forgiving": {func(s storage.Store) storage.Store { return forgiving{s} }, true},
	} {
		err := runScript(t, with(tc.wrap), steps)
		if (err != nil) != tc.faulty {
			t.Errorf("%s: got error %v", name, err)
		}
		if !tc.faulty {
			continue
		}
		small := shrink(steps, 300, func(s []step) bool { return runScript(t, with(tc.wrap), s) != nil })
		if len(small) > 20 {
			t.Errorf("%s: shrunk to %d steps only:\n%s", name, len(small), formatScript(small))
		}
		again, err := parseScript(formatScript(small))
		if diff := cmp.Diff(small, again); diff != "" || err != nil {
			t.Errorf("%s: the script reads back with error %v (-want +got):\n%s", name, err, diff)
		}
		if runScript(t, with(tc.wrap), again) == nil {
			t.Errorf("%s: the script does not fail when it is run again", name)
		}
	}
}
