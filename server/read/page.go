package read

import (
	"context"
	"errors"
	"fmt"

	metainternal "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
)

// page is what a list shows, before it is written.
type page struct {
	revision  storage.Revision
	entries   []*cache.Entry
	cont      string
	remaining *int64
}

// meta is the page's list metadata.
func (p *page) meta() metav1.ListMeta {
	return metav1.ListMeta{
		ResourceVersion:    fmt.Sprint(uint64(p.revision)),
		Continue:           p.cont,
		RemainingItemCount: p.remaining,
	}
}

// view says which state of the collection is asked for, and which part of it.
type view struct {
	scope
	exact storage.Revision // show the collection as it was at this revision; 0: as it is
	asked string           // when not exact: the resourceVersion that it must not be older than; "": the present
	least storage.Revision // asked, parsed
	limit int64            // 0: none
	from  *place           // where the previous page ended
}

// viewOf applies upstream's rules about resourceVersion, resourceVersionMatch, limit and continue. It is not ok when
// upstream has to explain what is wrong with them.
func (r *Resource) viewOf(s scope, opts *metainternal.ListOptions) (view, bool) {
	v := view{scope: s, asked: opts.ResourceVersion, limit: max(opts.Limit, 0)}
	rev, ok := parseRevision(opts.ResourceVersion)
	if !ok {
		return v, false
	}
	v.least = rev
	if opts.ResourceVersion == "0" {
		v.limit = 0 // "any state will do" has always come in one piece
	}
	switch {
	case opts.Continue != "":
		p, ok := r.decodeContinue(opts.Continue, s)
		if !ok || (opts.ResourceVersion != "" && opts.ResourceVersion != "0") {
			return v, false
		}
		v.from, v.asked, v.least = &p, "", 0
		if p.rev > 0 {
			v.exact = storage.Revision(p.rev)
		}
	case opts.ResourceVersionMatch == metav1.ResourceVersionMatchExact:
		v.exact = rev
	case opts.ResourceVersionMatch == "" && opts.Limit > 0 && rev > 0 && s.name == "":
		v.exact = rev // what a limit with a resourceVersion meant before there was resourceVersionMatch
	}
	if s.name != "" {
		v.limit = 0
	}
	return v, true
}

// snapshot finds the state that a view asks for.
func (h *Handler) snapshot(ctx context.Context, res *Resource, v *view) (cache.Snapshot, error) {
	if v.exact == 0 {
		if err := h.settle(ctx, res, v.asked, v.least); err != nil {
			return cache.Snapshot{}, err
		}
		return res.Cache.Snapshot(res.storageName), nil
	}
	if err := h.notOlderThan(ctx, res, v.exact); err != nil {
		return cache.Snapshot{}, err
	}
	snap, err := res.Cache.SnapshotAt(ctx, res.storageName, v.exact)
	switch {
	case err == nil:
		return snap, nil
	case errors.Is(err, storage.ErrCompacted) && v.from != nil:
		return snap, v.from.expired()
	case errors.Is(err, storage.ErrFuture):
		return snap, tooLarge(v.exact, res.Cache.Position().Revision)
	}
	return snap, fmt.Errorf("%s at revision %d: %w", res.storageName, v.exact, err)
}

// checkEvery is how many objects are looked at before the question whether somebody still waits.
const checkEvery = 512

// read gathers what a view shows through a predicate.
func (h *Handler) read(ctx context.Context, res *Resource, v *view, pred *predicate) (page, error) {
	snap, err := h.snapshot(ctx, res, v)
	if err != nil {
		return page{}, err
	}
	p := page{revision: snap.Revision()}
	if v.exact != 0 {
		p.revision = v.exact
	}
	if v.name != "" {
		if e := snap.Get(v.namespace, v.name); e != nil {
			err = p.add(e, pred)
		}
		return p, err
	}
	var after storage.Key
	if v.from != nil {
		after = v.from.after
	}
	if pred.all && v.limit == 0 {
		p.entries = make([]*cache.Entry, 0, snap.Count(v.namespace, after))
	}
	more, looked := false, 0
	var last storage.Key
	res.Codec.Scan(snap, v.namespace, after, pred.selection, func(e *cache.Entry) bool {
		if v.limit > 0 && int64(len(p.entries)) >= v.limit {
			more = true
			return false
		}
		if looked++; looked%checkEvery == 0 {
			if err = ctx.Err(); err != nil {
				return false
			}
		}
		last = e.Key
		err = p.add(e, pred)
		return err == nil
	})
	if err == nil && !more && v.limit > 0 && int64(len(p.entries)) >= v.limit {
		// What cannot be selected was perhaps not looked at, and is behind the page all the same.
		last = p.entries[len(p.entries)-1].Key
		more = snap.More(v.namespace, last)
	}
	if err != nil || !more {
		return p, err
	}
	if p.cont, err = encodeContinue(v.scope, last, p.revision); err != nil {
		return p, fmt.Errorf("encode continue token: %w", err)
	}
	if pred.all {
		left := int64(snap.Count(v.namespace, last))
		p.remaining = &left
	}
	return p, nil
}

func (p *page) add(e *cache.Entry, pred *predicate) error {
	ok, err := pred.matches(e)
	if ok {
		p.entries = append(p.entries, e)
	}
	return err
}
