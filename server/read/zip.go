package read

import (
	"compress/flate"
	"encoding/binary"
	"hash/crc32"
	"slices"

	"github.com/rowlock-io/rowlock/schema/splice"
)

// Clients of Go take gzip without being asked, so most large lists are compressed, and compressing costs many times what
// all the rest of a list does. But lists of one resource are mostly made of the same objects. So they are compressed in
// runs of some dozens of objects, the runs are kept, and a list is put together from them: deflate blocks that end at a
// byte border can follow each other in one stream.

// gzipHead is a member without name or time, made at the fastest level.
const gzipHead = "\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"

// zipper writes one list as one gzip member.
type zipper struct {
	h    *Handler
	out  *body
	crc  uint32
	size uint32
}

// worthRuns tells whether a list is certainly above the size from which upstream compresses.
func (i *pieces) worthRuns() bool {
	size := 0
	for n := range i.list {
		if size += len(i.list[n].data); size > gzipThreshold {
			return true
		}
	}
	return false
}

// writeZipped writes a list whose items stand between head and tail.
func (i *pieces) writeZipped(h *Handler, out *body, res *Resource, head, tail []byte) {
	out.encoded = true
	z := zipper{h: h, out: out}
	out.buf = append(out.buf, gzipHead...)
	z.plain(head, false)
	for rest := i.list; len(rest) > 0; {
		n, hash := cut(rest)
		key := runKey{res: res, media: i.media, first: len(rest) == len(i.list), count: n, head: rest[0].revision, hash: hash}
		z.run(key, rest[:n])
		rest = rest[n:]
		if out.full() && !out.spill() {
			return
		}
	}
	z.plain(tail, true)
	out.buf = binary.LittleEndian.AppendUint32(out.buf, z.crc)
	out.buf = binary.LittleEndian.AppendUint32(out.buf, z.size)
}

// plain appends bytes as blocks that are not compressed.
func (z *zipper) plain(data []byte, last bool) {
	z.crc = crc32.Update(z.crc, crc32.IEEETable, data)
	z.size += uint32(len(data))
	for {
		n := min(len(data), 1<<16-1)
		final := byte(0)
		if last && n == len(data) {
			final = 1
		}
		z.out.buf = append(z.out.buf, final)
		z.out.buf = binary.LittleEndian.AppendUint16(z.out.buf, uint16(n))
		z.out.buf = binary.LittleEndian.AppendUint16(z.out.buf, ^uint16(n))
		z.out.buf = append(z.out.buf, data[:n]...)
		if data = data[n:]; len(data) == 0 {
			return
		}
	}
}

func (z *zipper) run(key runKey, items []piece) {
	r := z.h.runs.get(key, items)
	if r == nil {
		r = z.compress(key, items)
		// Objects that were encoded anew for this list have no revision to be told apart by.
		if !slices.ContainsFunc(items, func(p piece) bool { return p.revision == 0 }) {
			z.h.runs.put(r)
		}
	}
	z.out.buf = append(z.out.buf, r.data...)
	z.crc = splice.CRCAppend(z.crc, r.crc, r.shift)
	z.size += uint32(r.size)
}

func (z *zipper) compress(key runKey, items []piece) *run {
	p := &z.h.pools
	plain, zipped := p.buffer(), p.buffer()
	buf := appendItems((*plain)[:0], key.media, items, key.first)
	into := sink((*zipped)[:0])
	w := p.flater(&into)
	_, err := w.Write(buf)
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		panic(err) // a sink takes everything
	}
	p.flaters.Put(w)
	r := &run{
		key: key, revisions: revisionsOf(items), data: slices.Clone(into),
		crc: crc32.ChecksumIEEE(buf), shift: splice.CRCShift(len(buf)), size: len(buf),
	}
	p.keep(plain, buf)
	p.keep(zipped, into)
	return r
}

// sink is a slice as a Writer.
type sink []byte

func (s *sink) Write(p []byte) (int, error) {
	*s = append(*s, p...)
	return len(p), nil
}

func (p *pools) flater(into *sink) *flate.Writer {
	if w, ok := p.flaters.Get().(*flate.Writer); ok {
		w.Reset(into)
		return w
	}
	w, err := flate.NewWriter(into, flate.BestSpeed)
	if err != nil {
		panic(err) // the level is a constant that flate knows
	}
	return w
}
