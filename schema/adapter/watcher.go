package adapter

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/watch"
	apistorage "k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/util/flowcontrol"

	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
)

const (
	// bookmarkPeriod is how often a watch with bookmarks gets one, and bookmarkLead how long before its deadline the
	// last one comes, so that the client resumes from near the end. Both are upstream's.
	bookmarkPeriod = time.Minute
	bookmarkLead   = 2 * time.Second
	// progressPeriod is the same for watches inside the server that ask for progress.
	progressPeriod = 5 * time.Second
)

// watcher implements watch.Interface: one goroutine takes changes from the cache's shared history and turns them into
// events.
type watcher struct {
	scope
	store    *Store
	pred     apistorage.SelectionPredicate
	all      bool // the predicate selects everything
	progress bool
	external bool // objects are View.External's

	ctx     context.Context
	cancel  context.CancelFunc
	results chan watch.Event

	log        *cache.Watcher
	startAt    storage.Revision
	initial    *cache.Snapshot // to be told first
	endInitial bool            // followed by a bookmark that says so

	due atomic.Bool // a bookmark is due
}

var _ watch.Interface = (*watcher)(nil)

// Stop ends the watch; events that are in the channel already can still be read.
func (w *watcher) Stop() { w.cancel() }

// ResultChan gives the events. It is closed at the end of the watch.
func (w *watcher) ResultChan() <-chan watch.Event { return w.results }

func (w *watcher) end() {
	w.cancel()
	close(w.results)
}

func (w *watcher) run() {
	defer w.end()
	defer w.log.Close()
	if !w.tellInitial() {
		return
	}
	flowcontrol.WatchInitialized(w.ctx)
	stop := w.clock()
	defer stop()
	for {
		b, err := w.log.Next(w.ctx)
		if err != nil {
			w.sendError(err)
			return
		}
		for i := range b.Changes {
			e, err := w.event(&b.Changes[i])
			if err != nil {
				w.sendError(err)
				return
			}
			if e != nil && !w.send(*e) {
				return
			}
		}
		if w.due.CompareAndSwap(true, false) && !w.bookmark(b.Through, false) {
			return
		}
	}
}

// tellInitial sends the state that the watch begins with.
func (w *watcher) tellInitial() bool {
	if w.initial != nil {
		ok := true
		tell := func(c *cache.Entry) bool {
			var e *watch.Event
			if e, ok = w.initialEvent(c); e != nil {
				ok = w.send(*e)
			}
			return ok
		}
		switch {
		case w.nothing:
		case w.one:
			if c := w.initial.Get(w.key.Namespace, w.key.Name); c != nil {
				tell(c)
			}
		default:
			w.store.codec.Scan(*w.initial, w.namespace, storage.Key{}, &w.pred, tell)
		}
		w.initial = nil // or the whole state would live as long as the watch
		if !ok {
			return false
		}
	}
	return !w.endInitial || w.bookmark(w.startAt, true)
}

func (w *watcher) initialEvent(c *cache.Entry) (e *watch.Event, ok bool) {
	e, err := w.eventOf(watch.Added, c, c.Revision)
	if err != nil {
		w.sendError(err)
		return nil, false
	}
	return e, true
}

// clock makes bookmarks due.
func (w *watcher) clock() (stop func()) {
	period := bookmarkPeriod
	switch {
	case w.progress:
		period = progressPeriod
	case !w.pred.AllowWatchBookmarks:
		return func() {}
	}
	ring := func() {
		w.due.Store(true)
		w.log.Wake()
	}
	var mu sync.Mutex
	var timer *time.Timer
	var arm func()
	arm = func() {
		mu.Lock()
		defer mu.Unlock()
		if w.ctx.Err() != nil {
			return
		}
		// Spread, or all watches of a client that was restarted would be told at once for ever after.
		wait := period - time.Duration(rand.Int64N(int64(period/5)))
		if deadline, ok := w.ctx.Deadline(); ok {
			last := time.Until(deadline) - bookmarkLead
			if last <= 0 {
				return
			}
			wait = min(wait, last)
		}
		timer = time.AfterFunc(wait, func() {
			ring()
			arm()
		})
	}
	arm()
	if w.progress {
		go func() {
			for {
				select {
				case <-w.store.progressRequested():
					ring()
				case <-w.ctx.Done():
					return
				}
			}
		}()
	}
	return func() {
		mu.Lock()
		defer mu.Unlock()
		if timer != nil {
			timer.Stop()
		}
	}
}

// bookmark tells that everything up to a revision was sent.
func (w *watcher) bookmark(at storage.Revision, endInitial bool) bool {
	obj := w.store.codec.Config().New()
	err := versioner.UpdateObject(obj, uint64(at))
	if err == nil && endInitial {
		err = apistorage.AnnotateInitialEventsEndBookmark(obj)
	}
	if err != nil {
		w.sendError(err)
		return false
	}
	return w.send(watch.Event{Type: watch.Bookmark, Object: obj})
}

func (w *watcher) send(e watch.Event) bool {
	select {
	case w.results <- e:
		return true
	case <-w.ctx.Done():
		return false
	}
}

func (w *watcher) sendError(err error) {
	if e := w.store.errorEvent(err); e != nil {
		w.send(*e)
	}
}
