package read

import (
	"fmt"
	"net/http"
	"slices"
)

// streamItems is how many objects' bytes are held at a time where not all are.
const streamItems = 256

// large tells whether a page's bytes are too many to be all held at a time.
func (h *Handler) large(p *page) bool {
	size := 0
	for _, e := range p.entries {
		if !e.Resident() {
			size += e.Size()
		}
	}
	return size > h.cfg.StreamBytes
}

// stream writes a list whose bytes are found while it is written. An object that cannot be read, because the database went
// away, cuts it off, unless it is among the first.
func (h *Handler) stream(w http.ResponseWriter, req *http.Request, res *Resource, m media, p *page) {
	size := 0
	if m == mediaProtobuf { // it has to say how long it is before the first item
		err := h.portions(res, m, p, func(items *pieces, _ bool) bool {
			size += items.protoBytes()
			return req.Context().Err() == nil
		})
		if err != nil {
			h.fail(w, req, res, err)
			return
		}
	}
	out := h.newBody(w, req, m.contentType())
	defer out.release()
	frame := pieces{media: m}
	head, tail, err := frame.frame(res, p, size)
	if err != nil {
		h.fail(w, req, res, fmt.Errorf("encode list metadata: %w", err))
		return
	}
	begun, gone := false, false
	out.buf = append(out.buf, head...)
	err = h.portions(res, m, p, func(items *pieces, first bool) bool {
		for n := range items.list {
			out.buf = appendItems(out.buf, m, items.list[n:n+1], first && n == 0)
			if out.full() {
				begun = true
				if gone = !out.spill(); gone {
					return false
				}
			}
		}
		return true
	})
	switch {
	case gone:
	case err != nil && begun:
		panic(http.ErrAbortHandler)
	case err != nil:
		out.buf = out.buf[:0]
		h.fail(w, req, res, err)
	default:
		out.buf = append(out.buf, tail...)
		out.finish()
	}
}

// portions finds the bytes of a page's items some at a time.
func (h *Handler) portions(res *Resource, m media, p *page, each func(items *pieces, first bool) bool) error {
	first := true
	for entries := range slices.Chunk(p.entries, streamItems) {
		items, err := h.collect(res, m, &page{entries: entries})
		more := err == nil && each(items, first)
		items.release()
		if !more {
			return err
		}
		first = false
	}
	return nil
}
