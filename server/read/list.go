package read

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"

	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/rowlock-io/rowlock/storage"
)

// List answers a LIST. When it returns false nothing was written and upstream's handler has to answer.
func (h *Handler) List(w http.ResponseWriter, req *http.Request, info *request.RequestInfo, res *Resource) bool {
	if req.Method != http.MethodGet || info.Subresource != "" {
		return false
	}
	m, ok := res.negotiate(req, false)
	if !ok || auditsBody(req) {
		return false
	}
	opts, ok := h.listOptions(req, info, res)
	if !ok || opts.Watch {
		return false
	}
	s, ok := res.scopeOf(info, &opts)
	if !ok {
		return false
	}
	v, ok := res.viewOf(s, &opts)
	if !ok {
		return false
	}
	pred := newPredicate(res, &opts)
	p, err := h.read(req.Context(), res, &v, &pred)
	if err != nil {
		h.fail(w, req, res, err)
		return true
	}
	items, err := h.collect(res, m, &p)
	defer items.release()
	if err != nil {
		h.fail(w, req, res, err)
		return true
	}
	out := h.newBody(w, req, m.contentType())
	defer out.release()
	if err := items.write(out, res, &p); err != nil {
		h.fail(w, req, res, err)
		return true
	}
	out.finish()
	return true
}

// pieces are the bytes of a page's items, all found before the first one is written, so that an object that cannot be
// read makes an error and not half a list. Only references are held: the bytes are the cache's.
type pieces struct {
	pool  *sync.Pool
	media media
	list  []piece
}

// piece is one item: its JSON, with the place and the value of the resourceVersion that is to be put in (revision 0: it
// is in already), or its protobuf.
type piece struct {
	data     []byte
	off      int
	revision storage.Revision
}

// collect finds the bytes of all items of a page.
func (h *Handler) collect(res *Resource, m media, p *page) (*pieces, error) {
	items, _ := h.lists.Get().(*pieces)
	if items == nil {
		items = &pieces{pool: &h.lists}
	}
	items.media = m
	for _, e := range p.entries {
		item, err := res.piece(m, res.Codec.View(e), e.Revision)
		if err != nil {
			return items, fmt.Errorf("read %s: %w", e.Key, err)
		}
		items.list = append(items.list, item)
	}
	return items, nil
}

func (i *pieces) release() {
	clear(i.list) // or the pool would keep objects alive
	i.list = i.list[:0]
	i.pool.Put(i)
}

func (i *pieces) write(out *body, res *Resource, p *page) error {
	if i.media == mediaProtobuf {
		return i.writeProtobuf(out, res, p)
	}
	meta, err := json.Marshal(p.meta())
	if err != nil {
		return fmt.Errorf("encode list metadata: %w", err)
	}
	out.buf = append(out.buf, res.listHead...)
	out.buf = append(out.buf, meta...)
	out.buf = append(out.buf, `,"items":[`...)
	for n := range i.list {
		if n > 0 {
			out.buf = append(out.buf, ',')
		}
		out.buf = i.list[n].appendJSON(out.buf)
		if out.full() && !out.spill() {
			return nil // nobody is left to read the rest
		}
	}
	out.buf = append(out.buf, "]}\n"...)
	return nil
}

// writeProtobuf writes the envelope of a list, whose sizes have to be known before the first byte. Nothing can fail once
// something is written.
func (i *pieces) writeProtobuf(out *body, res *Resource, p *page) error {
	listMeta := p.meta()
	meta, err := listMeta.Marshal()
	if err != nil {
		return fmt.Errorf("encode list metadata: %w", err)
	}
	size := fieldSize(len(meta))
	for n := range i.list {
		size += fieldSize(len(i.list[n].data))
	}
	out.buf = append(out.buf, res.protoHead...)
	out.buf = appendTag(out.buf, unknownRaw, size)
	out.buf = appendField(out.buf, listMetadata, meta)
	for n := range i.list {
		out.buf = appendField(out.buf, listItems, i.list[n].data)
		if out.full() && !out.spill() {
			return nil // nobody is left to read the rest
		}
	}
	out.buf = append(out.buf, unknownTail...)
	return nil
}
