package read

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
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
	asTable := !ok && res.negotiatesTable(req)
	if !(ok || asTable) || auditsBody(req) {
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
	if asTable {
		return h.listTable(w, req, res, &p)
	}
	if h.large(&p) {
		h.stream(w, req, res, m, &p)
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
	if err := items.write(h, out, res, &p); err != nil {
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

// piece is one item: its JSON, with the place where its resourceVersion is to be put in, or its protobuf. The revision is
// 0 for JSON that was encoded anew and has its resourceVersion.
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

// write writes the list.
func (i *pieces) write(h *Handler, out *body, res *Resource, p *page) error {
	head, tail, err := i.frame(res, p, i.protoBytes())
	if err != nil {
		return fmt.Errorf("encode list metadata: %w", err)
	}
	if out.gzip && i.worthRuns() {
		i.writeZipped(h, out, res, head, tail)
		return nil
	}
	out.buf = append(out.buf, head...)
	for n := range i.list {
		out.buf = appendItems(out.buf, i.media, i.list[n:n+1], n == 0)
		if out.full() && !out.spill() {
			return nil // nobody is left to read the rest
		}
	}
	out.buf = append(out.buf, tail...)
	return nil
}

// protoBytes is how much the items take in a list in protobuf; 0 in another.
func (i *pieces) protoBytes() (size int) {
	if i.media == mediaProtobuf {
		for n := range i.list {
			size += fieldSize(len(i.list[n].data))
		}
	}
	return size
}

// frame is what stands in front of and behind the items, of which protoBytes is known.
func (i *pieces) frame(res *Resource, p *page, protoBytes int) (head, tail []byte, err error) {
	listMeta := p.meta()
	if res.Unstructured {
		return i.sortedFrame(res, p)
	}
	if i.media == mediaJSON {
		meta, err := json.Marshal(listMeta)
		return slices.Concat(res.listHead, meta, []byte(`,"items":[`)), []byte("]}\n"), err
	}
	meta, err := listMeta.Marshal()
	// The envelope has to say how long it is before the first item.
	size := fieldSize(len(meta)) + protoBytes
	head = appendTag(slices.Clone(res.protoHead), unknownRaw, size)
	return appendField(head, listMetadata, meta), []byte(unknownTail), err
}

// sortedFrame is frame for a list that is a map.
func (i *pieces) sortedFrame(res *Resource, p *page) (head, tail []byte, err error) {
	listMeta := map[string]any{"resourceVersion": fmt.Sprint(uint64(p.revision)), "continue": p.cont}
	if p.remaining != nil {
		listMeta["remainingItemCount"] = *p.remaining
	}
	meta, err := json.Marshal(listMeta)
	head = fmt.Appendf(nil, `{"apiVersion":%q,"items":[`, res.Kind.GroupVersion().String())
	tail = fmt.Appendf(nil, `],"kind":%q,"metadata":%s}`+"\n", res.ListKind, meta)
	return head, tail, err
}

// appendItems appends items that follow each other in a list; first says that nothing is in front of them.
func appendItems(dst []byte, m media, items []piece, first bool) []byte {
	for n := range items {
		if m == mediaProtobuf {
			dst = appendField(dst, listItems, items[n].data)
			continue
		}
		if n > 0 || !first {
			dst = append(dst, ',')
		}
		dst = items[n].appendJSON(dst)
	}
	return dst
}
