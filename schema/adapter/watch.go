package adapter

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/watch"
	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
)

// resultBuffer is how many events wait for a slow reader before its goroutine blocks; nobody else waits for it.
const resultBuffer = 100

// Watch implements storage.Interface. Once the key and the resourceVersion make sense, whatever fails is told by an
// event of type Error, after which the channel closes.
func (s *Store) Watch(ctx context.Context, key string, opts apistorage.ListOptions) (watch.Interface, error) {
	return s.watch(ctx, key, opts, false)
}

func (s *Store) watch(ctx context.Context, key string, opts apistorage.ListOptions, external bool) (watch.Interface, error) {
	sc, err := s.scope(key, opts.Recursive)
	if err != nil {
		return nil, err
	}
	rev, err := versioner.ParseResourceVersion(opts.ResourceVersion)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &watcher{
		store: s, scope: sc, pred: opts.Predicate,
		all:      opts.Predicate.Empty() && (opts.Predicate.ShardSelector == nil || opts.Predicate.ShardSelector.Empty()),
		ctx:      ctx,
		cancel:   cancel,
		results:  make(chan watch.Event, resultBuffer),
		progress: opts.ProgressNotify,
		external: external,
	}
	if err := w.start(storage.Revision(rev), opts); err != nil {
		w.sendError(err)
		w.end()
		return w, nil
	}
	go w.run()
	return w, nil
}

// start takes the position that the watch begins at: events after Watch returned are never missed.
func (w *watcher) start(rev storage.Revision, opts apistorage.ListOptions) error {
	s := w.store
	initial := rev == 0
	if opts.SendInitialEvents != nil {
		initial = *opts.SendInitialEvents
		w.endInitial = initial && opts.Predicate.AllowWatchBookmarks
	}
	// "" begins with the present, "0" with whatever is at hand, a number needs the cache to have reached it.
	if err := s.fresh(w.ctx, opts.ResourceVersion); err != nil {
		return err
	}
	if initial || rev == 0 {
		snap := s.Cache.Snapshot(s.codec.Resource())
		rev = snap.Revision()
		if initial {
			w.initial = &snap
		}
	}
	if uint64(rev) < s.floor.Load() {
		return storage.ErrCompacted
	}
	w.startAt = rev
	log, err := s.Cache.Watch(w.ctx, w.selector(s.codec.Resource(), w.exactName()), rev)
	if err != nil {
		return err
	}
	w.log = log
	return nil
}

// exactName is the only name that the predicate lets through, or empty.
func (w *watcher) exactName() string {
	if w.pred.Field == nil || w.store.codec.Config().GetAttrs == nil {
		return ""
	}
	name, _ := w.pred.Field.RequiresExactMatch("metadata.name")
	return name
}

// event is what a change looks like to this watch; nil when it is of no interest. What leaves the selection is shown
// as deleted, in its last form that was in it, at the revision of the change.
func (w *watcher) event(c *cache.Change) (*watch.Event, error) {
	if !w.has(c.Entry.Key) {
		return nil, nil
	}
	at := c.Entry.Revision
	was := c.Prev
	if c.Verb == storage.Delete {
		if was == nil {
			was = c.Entry
		}
		return w.eventOf(watch.Deleted, was, at)
	}
	if c.Verb == storage.Create || was == nil {
		return w.eventOf(watch.Added, c.Entry, at)
	}
	if w.all {
		return w.eventOf(watch.Modified, c.Entry, at)
	}
	now, err := w.selects(c.Entry)
	if err != nil {
		return nil, err
	}
	before, err := w.selects(was)
	switch {
	case err != nil:
		return nil, err
	case now && before:
		return w.show(watch.Modified, c.Entry, at)
	case now:
		return w.show(watch.Added, c.Entry, at)
	case before:
		return w.show(watch.Deleted, was, at)
	}
	return nil, nil
}

func (w *watcher) eventOf(t watch.EventType, e *cache.Entry, at storage.Revision) (*watch.Event, error) {
	if ok, err := w.selects(e); err != nil || !ok {
		return nil, unreadable(t, err)
	}
	return w.show(t, e, at)
}

func (w *watcher) show(t watch.EventType, e *cache.Entry, at storage.Revision) (*watch.Event, error) {
	view := w.store.codec.View(e)
	show := view.ObjectAt
	if w.external {
		show = view.ExternalAt
	}
	obj, err := show(at)
	if err != nil {
		return nil, unreadable(t, err)
	}
	return &watch.Event{Type: t, Object: obj}, nil
}

func (w *watcher) selects(e *cache.Entry) (bool, error) {
	if w.all {
		return true, nil
	}
	return w.store.matches(w.store.codec.View(e), &w.pred)
}

// unreadable says of an object that cannot be read that it was deleted, so that clients may forget it.
func unreadable(t watch.EventType, err error) error {
	if err != nil && t == watch.Deleted {
		return storeReadError(err)
	}
	return err
}

// errorEvent is how a watch tells of an error; nil when it merely ended.
func (s *Store) errorEvent(err error) *watch.Event {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return nil
	case errors.Is(err, storage.ErrCompacted):
		err = apierrors.NewResourceExpired(watchExpired)
	default:
		err = s.fail("watch "+s.codec.Resource(), err)
	}
	var known apierrors.APIStatus
	if !errors.As(err, &known) {
		known = apierrors.NewInternalError(err)
	}
	status := known.Status()
	return &watch.Event{Type: watch.Error, Object: &status}
}
