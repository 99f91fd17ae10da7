package read

import (
	"compress/gzip"
	"io"
	"net/http"
	"sync"
)

const (
	// pieceBytes is how much is gathered before it is handed to the connection.
	pieceBytes = 256 << 10
	// gzipThreshold: bodies up to this size are sent as they are. Below pieceBytes, so that the first piece decides.
	gzipThreshold = 128 << 10
	// keepBytes: larger buffers are not kept for the next request.
	keepBytes = 1 << 20
)

type pools struct {
	buffers sync.Pool // *[]byte
	zips    sync.Pool // *gzip.Writer
	flaters sync.Pool // *flate.Writer
}

// body is the answer to one GET or LIST, written in pieces and compressed when that is asked for and pays.
type body struct {
	pools       *pools
	w           http.ResponseWriter
	contentType string
	gzip        bool // the client takes it
	encoded     bool // what is gathered is compressed already
	buf         []byte
	kept        *[]byte
	out         io.Writer // nil until the first piece
	zip         *gzip.Writer
	err         error
}

func (h *Handler) newBody(w http.ResponseWriter, req *http.Request, contentType string) *body {
	kept := h.pools.buffer()
	return &body{pools: &h.pools, w: w, contentType: contentType, gzip: h.acceptsGzip(req), buf: (*kept)[:0], kept: kept}
}

// full tells whether it is time to spill.
func (b *body) full() bool { return len(b.buf) >= pieceBytes }

// spill hands what has been gathered to the connection. It tells whether the connection still takes it; when it does not,
// the rest is discarded.
func (b *body) spill() bool {
	if b.out == nil {
		b.start()
	}
	if b.err == nil {
		_, b.err = b.out.Write(b.buf)
	}
	b.buf = b.buf[:0]
	return b.err == nil
}

func (b *body) start() {
	header := b.w.Header()
	b.out = b.w
	long := b.gzip && !b.encoded && len(b.buf) > gzipThreshold
	if long || b.encoded {
		header.Set("Content-Encoding", "gzip")
		header.Add("Vary", "Accept-Encoding")
	}
	if long {
		b.zip = b.pools.zip(b.w)
		b.out = b.zip
	}
	header.Set("Content-Type", b.contentType)
	b.w.WriteHeader(http.StatusOK)
}

// finish writes the rest.
func (b *body) finish() {
	b.spill()
	if b.zip != nil && b.err == nil {
		b.err = b.zip.Close()
	}
}

// release gives back what was borrowed.
func (b *body) release() {
	if b.zip != nil {
		b.zip.Reset(nil)
		b.pools.zips.Put(b.zip)
	}
	b.pools.keep(b.kept, b.buf)
}

func (p *pools) buffer() *[]byte {
	if b, ok := p.buffers.Get().(*[]byte); ok {
		return b
	}
	return new([]byte)
}

// keep returns a buffer, which may have grown into buf, to the pool.
func (p *pools) keep(b *[]byte, buf []byte) {
	if cap(buf) > keepBytes {
		return
	}
	*b = buf
	p.buffers.Put(b)
}

// zip returns a compressor of the level that upstream uses: its speed is worth more than a few percent of size.
func (p *pools) zip(w io.Writer) *gzip.Writer {
	if z, ok := p.zips.Get().(*gzip.Writer); ok {
		z.Reset(w)
		return z
	}
	z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level is a constant that gzip knows
	}
	return z
}
