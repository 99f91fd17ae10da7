package adapter

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/rowlock-io/rowlock/schema/object"
	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
)

// GetList implements storage.Interface.
func (s *Store) GetList(ctx context.Context, key string, opts apistorage.ListOptions, listObj runtime.Object) error {
	sc, err := s.scope(key, opts.Recursive)
	if err != nil {
		return err
	}
	ctx, end := s.span(ctx, "List", storage.Key{Resource: s.codec.Resource(), Namespace: sc.namespace})
	defer end()
	items, err := itemsOf(listObj)
	if err != nil {
		return err
	}
	p, err := s.startPage(ctx, sc, opts)
	if err != nil {
		return err
	}
	show, shown := noting(ctx, listObj)
	objs, err := s.fill(ctx, p, show)
	if err != nil {
		return err
	}
	shown()
	if err := setItems(items, objs); err != nil {
		return err
	}
	token, remaining, err := p.rest(s)
	if err != nil {
		return err
	}
	if err := versioner.UpdateList(listObj, uint64(p.rev), token, remaining); err != nil {
		return err
	}
	opts.Predicate.SetShardInfoOnList(listObj)
	return nil
}

// page is one answer to a list: from where in which state of the collection, and how far it came.
type page struct {
	scope
	opts  apistorage.ListOptions
	snap  cache.Snapshot
	rev   storage.Revision // what the client is told
	after storage.Key      // where the page begins: behind this key
	first *cache.Entry     // in front of what lies behind after: the entry at it, for tokens that include their key

	last storage.Key // the last object taken
	more bool        // there are objects behind it
}

// startPage finds out which state a list is to be answered from.
func (s *Store) startPage(ctx context.Context, sc scope, opts apistorage.ListOptions) (*page, error) {
	exact, from, err := apistorage.ValidateListOptions(sc.prefix, versioner, opts)
	if err != nil {
		return nil, err
	}
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	p := &page{scope: sc, opts: opts}
	switch {
	case exact > 0:
		p.rev = storage.Revision(exact)
		p.snap, err = s.exactly(ctx, p.rev)
		if errors.Is(err, storage.ErrCompacted) {
			return nil, s.expired(from, sc, opts)
		}
	case from != "":
		err = s.current(ctx)
	default:
		err = s.fresh(ctx, opts.ResourceVersion)
	}
	if err != nil {
		return nil, s.fail("list "+s.codec.Resource(), err)
	}
	if exact <= 0 {
		p.snap = s.Cache.Snapshot(s.codec.Resource())
		p.rev = p.snap.Revision()
	}
	if from != "" {
		s.resume(p, from)
	}
	return p, nil
}

// exactly returns the resource as it was at a revision.
func (s *Store) exactly(ctx context.Context, rev storage.Revision) (cache.Snapshot, error) {
	// What is known to be compacted is gone, even where the cache could still tell.
	if uint64(rev) < s.floor.Load() {
		return cache.Snapshot{}, fmt.Errorf("list at %d: %w", rev, storage.ErrCompacted)
	}
	if err := s.notOlder(ctx, rev); err != nil {
		return cache.Snapshot{}, err
	}
	return s.Cache.SnapshotAt(ctx, s.codec.Resource(), rev)
}

// resume sets where a page begins from the key in a continue token. A key with a NUL at its end, as tokens have it,
// stands for what comes behind it; any other for itself and what comes behind.
func (s *Store) resume(p *page, from string) {
	rest, behind := strings.CutSuffix(strings.TrimPrefix(from, s.prefix), "\x00")
	p.after, _ = s.parse(rest)
	if !behind {
		p.first = p.snap.Get(p.after.Namespace, p.after.Name)
	}
}

// fill takes objects for a page, in the form that show gives them.
func (s *Store) fill(ctx context.Context, p *page, show func(*object.View) (runtime.Object, error)) ([]runtime.Object, error) {
	var objs []runtime.Object
	if p.nothing {
		return nil, nil
	}
	limit := p.opts.Predicate.Limit
	if p.opts.Predicate.Empty() && !p.one {
		room := p.snap.Count(p.namespace, p.after)
		if limit > 0 {
			room = min(room, int(limit))
		}
		objs = make([]runtime.Object, 0, room)
	}
	var failed error
	take := func(e *cache.Entry) bool {
		if limit > 0 && int64(len(objs)) >= limit {
			p.more = true
			return false
		}
		if failed = ctx.Err(); failed != nil {
			failed = apistorage.NewTimeoutError(s.path(e.Key), requestTimedOut)
			return false
		}
		v := s.codec.View(e)
		ok, err := s.matches(v, &p.opts.Predicate)
		if err == nil && ok {
			var obj runtime.Object
			if obj, err = show(v); err == nil {
				objs = append(objs, obj)
				p.last = e.Key
			}
		}
		if err != nil {
			failed = s.fail(opName("read", e.Key), err)
			return false
		}
		return true
	}
	switch {
	case p.one:
		if e := p.snap.Get(p.key.Namespace, p.key.Name); e != nil {
			take(e)
		}
	case p.first != nil && (p.namespace == "" || p.namespace == p.first.Namespace) && !take(p.first):
	default:
		s.codec.Scan(p.snap, p.namespace, p.after, &p.opts.Predicate, take)
	}
	if failed == nil && !p.more && !p.one && limit > 0 && int64(len(objs)) >= limit {
		// What cannot be selected was perhaps not looked at, and is behind the page all the same.
		p.more = p.snap.More(p.namespace, p.last)
	}
	return objs, failed
}

// matches tells whether an object is selected. One of which a registry cannot tell the attributes is not, as upstream
// has it; one that cannot be read is an error.
func (s *Store) matches(v *object.View, pred *apistorage.SelectionPredicate) (bool, error) {
	ok, err := v.Matches(pred)
	if err != nil && !object.IsCorrupt(err) {
		return false, nil
	}
	return ok, err
}

// rest returns the token for the next page and, as upstream does where nothing is selected, how much is left.
func (p *page) rest(s *Store) (token string, remaining *int64, err error) {
	if !p.more {
		return "", nil, nil
	}
	token, err = apistorage.EncodeContinue(s.path(p.last)+"\x00", p.prefix, int64(p.rev))
	if err != nil {
		return "", nil, err
	}
	if p.opts.Predicate.Empty() {
		n := int64(p.snap.Count(p.namespace, p.last))
		remaining = &n
	}
	return token, remaining, nil
}

// expired is the answer to a list at a revision that was compacted. The rest of a paged list can be had from the
// present state, with a token for that.
func (s *Store) expired(from string, sc scope, opts apistorage.ListOptions) error {
	if opts.Predicate.Continue == "" {
		return apierrors.NewResourceExpired(listExpired)
	}
	token, err := apistorage.EncodeContinue(from, sc.prefix, -1)
	if err != nil {
		return apierrors.NewResourceExpired(continueExpired)
	}
	e := apierrors.NewResourceExpired(continueInconsistent)
	e.ErrStatus.ListMeta.Continue = token
	return e
}

func itemsOf(listObj runtime.Object) (reflect.Value, error) {
	ptr, err := meta.GetItemsPtr(listObj)
	if err != nil {
		return reflect.Value{}, err
	}
	v, err := conversion.EnforcePtr(ptr)
	if err != nil || v.Kind() != reflect.Slice {
		return reflect.Value{}, fmt.Errorf("need ptr to slice: %w", err)
	}
	return v, nil
}

// setItems copies the objects' top level into the list. It is never nil, so that clients see an empty array.
func setItems(items reflect.Value, objs []runtime.Object) error {
	slice := reflect.MakeSlice(items.Type(), len(objs), len(objs))
	for i, obj := range objs {
		v := reflect.ValueOf(obj).Elem()
		if !v.Type().AssignableTo(items.Type().Elem()) {
			return fmt.Errorf("stored object is a %s, the list holds %s", v.Type(), items.Type().Elem())
		}
		slice.Index(i).Set(v)
	}
	items.Set(slice)
	return nil
}
