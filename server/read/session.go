package read

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	apistorage "k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/util/flowcontrol"

	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
)

const (
	// lastBookmark is how long before the end of a watch its last bookmark comes, so that the next watch starts late.
	lastBookmark = 2 * time.Second
	// writeGrace is how long after its end a watch may still hang in a write to a client that does not read.
	writeGrace = 10 * time.Second

	watchExpired = "The resourceVersion for the provided watch is too old."
)

// session is one watch being served.
type session struct {
	h         *Handler
	res       *Resource
	media     media
	scope     scope
	pred      predicate
	start     start
	bookmarks bool
	w         http.ResponseWriter
	control   *http.ResponseController
	deadline  time.Time
	announced *atomic.Bool // of its connection; nil: nobody asks
	behind    bool         // the client has more to come than one event, and that goes out at once

	begun   storage.Revision // where the changes start
	nextDue time.Time        // of the next bookmark; zero: none
}

// run serves the watch. It holds a buffer only while there is something to write.
func (s *session) run(ctx context.Context) {
	// One deadline for the whole watch: a client that stops reading blocks this goroutine and nothing else, and not for
	// longer. Not every ResponseWriter can; then the connection's own limits have to do.
	if s.control.SetWriteDeadline(s.deadline.Add(writeGrace)) == nil {
		defer func() { _ = s.control.SetWriteDeadline(time.Time{}) }()
	}
	watcher, snap, err := s.begin(ctx)
	s.header()
	if err != nil {
		s.fail(ctx, err)
		return
	}
	defer watcher.Close()
	if err := s.initial(snap); err != nil {
		s.fail(ctx, err)
		return
	}
	flowcontrol.WatchInitialized(ctx)
	s.fail(ctx, s.changes(ctx, watcher))
}

// begin finds the state to start with, and takes the position behind it.
func (s *session) begin(ctx context.Context) (*cache.Watcher, *cache.Snapshot, error) {
	if err := s.h.settle(ctx, s.res, s.start.asked, s.start.revision); err != nil {
		return nil, nil, err
	}
	c := s.res.Cache
	s.begun = s.start.revision
	var first *cache.Snapshot
	if s.start.initial || s.begun == 0 {
		snap := c.Snapshot(s.res.storageName)
		s.begun = snap.Revision()
		if s.start.initial {
			first = &snap
		}
	}
	sel := storage.Selector{Resource: s.res.storageName, Namespace: s.scope.namespace, Name: s.scope.name}
	if sel.Name == "" {
		sel.Name = s.pred.name // of whatever namespace
	}
	w, err := c.Watch(ctx, sel, s.begun)
	if err != nil {
		return nil, nil, fmt.Errorf("watch %s: %w", s.res.storageName, err)
	}
	return w, first, nil
}

func (s *session) header() {
	header := s.w.Header()
	header.Set("Content-Type", s.media.streamType())
	header.Set("Transfer-Encoding", "chunked")
	s.w.WriteHeader(http.StatusOK)
	_ = s.control.Flush() // a client that is gone shows at the next write
}

// initial sends the snapshot, and the bookmark that says that it is complete.
func (s *session) initial(snap *cache.Snapshot) error {
	if snap == nil {
		return nil
	}
	kept := s.h.pools.buffer()
	buf := (*kept)[:0]
	defer func() { s.h.pools.keep(kept, buf) }()
	var err error
	add := func(e *cache.Entry) bool {
		var ok bool
		if ok, err = s.pred.matches(e); err != nil || !ok {
			return err == nil
		}
		if buf, err = s.res.appendEvent(buf, s.media, watch.Added, s.res.Codec.View(e), e.Revision); err != nil {
			return false
		}
		if len(buf) >= pieceBytes {
			err = s.write(buf)
			buf = buf[:0]
		}
		return err == nil
	}
	if s.scope.name != "" {
		if e := snap.Get(s.scope.namespace, s.scope.name); e != nil {
			add(e)
		}
	} else {
		s.res.Codec.Scan(*snap, s.scope.namespace, storage.Key{}, s.pred.selection, add)
	}
	if err != nil {
		return err
	}
	if s.bookmarks {
		if buf, err = s.appendBookmark(buf, s.begun, true); err != nil {
			return err
		}
	}
	return s.send(buf)
}

// send writes and flushes.
func (s *session) send(buf []byte) error {
	if len(buf) == 0 {
		return nil
	}
	if err := s.write(buf); err != nil {
		return err
	}
	if s.announced != nil && !s.behind && !s.announced.Load() {
		s.announced.Store(true)
	}
	if err := s.control.Flush(); err != nil {
		return fmt.Errorf("%w: %w", errGone, err)
	}
	return nil
}

func (s *session) write(buf []byte) error {
	if _, err := s.w.Write(buf); err != nil {
		return fmt.Errorf("%w: %w", errGone, err)
	}
	return nil
}

// appendBookmark appends an event that says: everything up to rev has been sent.
func (s *session) appendBookmark(dst []byte, rev storage.Revision, initialEnd bool) ([]byte, error) {
	obj := s.res.New()
	if err := (apistorage.APIObjectVersioner{}).UpdateObject(obj, uint64(rev)); err != nil {
		return dst, fmt.Errorf("set bookmark revision: %w", err)
	}
	if initialEnd {
		if err := apistorage.AnnotateInitialEventsEndBookmark(obj); err != nil {
			return dst, fmt.Errorf("annotate bookmark: %w", err)
		}
	}
	data, err := s.res.encode(s.media, obj)
	if err != nil {
		return dst, err
	}
	return s.res.appendEncoded(dst, s.media, watch.Bookmark, data), nil
}

// errGone: the client does not take what is written, so there is nobody to tell.
var errGone = errors.New("client is gone")

// fail ends the stream with an ERROR event, unless it ends because its time is up or the client has left.
func (s *session) fail(ctx context.Context, err error) {
	if err == nil || ctx.Err() != nil || errors.Is(err, errGone) || errors.Is(err, storage.ErrClosed) {
		return
	}
	if errors.Is(err, storage.ErrCompacted) {
		err = apierrors.NewResourceExpired(watchExpired)
	}
	var status apierrors.APIStatus
	if !errors.As(apiError(err), &status) {
		return
	}
	st := status.Status()
	st.TypeMeta = metav1.TypeMeta{}
	data, err := s.res.encode(s.media, &st)
	if err != nil {
		s.h.cfg.Log.Error("Encoding of a watch error failed", "err", err)
		return
	}
	_ = s.send(s.res.appendEncoded(nil, s.media, watch.Error, data))
}
