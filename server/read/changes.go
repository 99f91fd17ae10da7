package read

import (
	"context"
	"errors"
	"time"

	"github.com/rowlock-io/rowlock/storage/cache"
)

// changes sends what happens, a batch at a time, until the watch ends. Each batch is one write and one flush.
func (s *session) changes(ctx context.Context, w *cache.Watcher) error {
	s.schedule(time.Now())
	for {
		wait, cancel := ctx, context.CancelFunc(func() {})
		if !s.nextDue.IsZero() {
			wait, cancel = context.WithDeadline(ctx, s.nextDue)
		}
		err := s.changesUntil(wait, w)
		cancel()
		if err != nil && (ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded)) {
			return err
		}
		if err := s.bookmark(w); err != nil {
			return err
		}
		s.schedule(time.Now())
	}
}

// schedule says when the next bookmark is due.
func (s *session) schedule(now time.Time) {
	s.nextDue = time.Time{}
	if !s.bookmarks {
		return
	}
	due := now.Add(s.h.cfg.BookmarkInterval)
	if last := s.deadline.Add(-lastBookmark); last.Before(due) {
		due = last
	}
	if due.After(now) {
		s.nextDue = due
	}
}

// changesUntil sends batches until wait is done, which is when the next bookmark is due.
func (s *session) changesUntil(wait context.Context, w *cache.Watcher) error {
	for {
		batch, err := w.Next(wait)
		if err != nil {
			return err
		}
		if err := s.sendBatch(&batch); err != nil {
			return err
		}
		if !s.nextDue.IsZero() && !time.Now().Before(s.nextDue) {
			return context.DeadlineExceeded // a busy watch gets its bookmarks too
		}
	}
}

func (s *session) sendBatch(batch *cache.Batch) (err error) {
	if len(batch.Changes) == 0 {
		return nil
	}
	s.behind = len(batch.Changes) > 1
	kept := s.h.pools.buffer()
	buf := (*kept)[:0]
	defer func() { s.h.pools.keep(kept, buf) }()
	for i := range batch.Changes {
		if buf, err = s.pred.appendChange(buf, s.media, &batch.Changes[i]); err != nil {
			return err
		}
		if len(buf) >= pieceBytes {
			if err := s.send(buf); err != nil {
				return err
			}
			buf = buf[:0]
		}
	}
	return s.send(buf)
}

// bookmark sends what is there and then says up to where the client has seen everything.
func (s *session) bookmark(w *cache.Watcher) error {
	batch, err := w.TryNext()
	if err != nil {
		return err
	}
	if err := s.sendBatch(&batch); err != nil {
		return err
	}
	if batch.Through <= s.begun {
		return nil // nothing that the client does not know from how it began
	}
	buf, err := s.appendBookmark(nil, batch.Through, false)
	if err != nil {
		return err
	}
	return s.send(buf)
}
