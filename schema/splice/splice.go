// Package splice puts gzip members together from pieces that were compressed apart: deflate blocks that end at a byte border
// can follow each other in one stream. So one changed piece of a large whole costs that piece.
package splice

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
	"io"
	"sync"
)

// Piece is a run of bytes, compressed.
type Piece struct {
	Sum [sha256.Size]byte // of the bytes

	deflated []byte
	crc      uint32
	size     int64
}

// level is how hard pieces are compressed. Schemas become a sixth larger than at the default, in a fraction of the
// time.
const level = 3

// deflater is a compressor with its output. Making one takes longer than compressing most pieces.
type deflater struct {
	w   *flate.Writer
	buf bytes.Buffer
}

var deflaters = sync.Pool{New: func() any {
	d := &deflater{}
	var err error
	if d.w, err = flate.NewWriter(&d.buf, level); err != nil {
		panic(err) // flate knows its own levels
	}
	return d
}}

// Compress makes a piece.
func Compress(data []byte) Piece {
	d, _ := deflaters.Get().(*deflater)
	defer deflaters.Put(d)
	d.buf.Reset()
	d.w.Reset(&d.buf)
	_, err := d.w.Write(data)
	if err == nil {
		err = d.w.Flush()
	}
	if err != nil {
		panic(err) // a buffer takes everything
	}
	return newPiece(data, bytes.Clone(d.buf.Bytes()))
}

// Plain makes a piece of a few bytes, without compression.
func Plain(data string) Piece {
	if len(data) >= 1<<16 {
		return Compress([]byte(data))
	}
	n := uint16(len(data)) //nolint:gosec // checked above
	block := binary.LittleEndian.AppendUint16([]byte{0}, n)
	block = binary.LittleEndian.AppendUint16(block, ^n)
	return newPiece([]byte(data), append(block, data...))
}

func newPiece(data, deflated []byte) Piece {
	return Piece{deflated: deflated, crc: crc32.ChecksumIEEE(data), size: int64(len(data)), Sum: sha256.Sum256(data)}
}

// Bytes answers what the piece was made of.
func (p Piece) Bytes() ([]byte, error) {
	data := make([]byte, p.size)
	_, err := io.ReadFull(flate.NewReader(bytes.NewReader(p.deflated)), data)
	return data, err
}

// Member is a gzip member made of pieces, whose memory it shares.
type Member struct {
	chunks [][]byte
	zipped int64
	size   int64
}

// gzipHead is a member without name or time.
const gzipHead = "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"

// Join makes a member of pieces.
func Join(pieces []Piece) *Member {
	m := &Member{chunks: make([][]byte, 0, len(pieces)+2)}
	m.add([]byte(gzipHead))
	crc := uint32(0)
	for i := range pieces {
		p := &pieces[i]
		m.add(p.deflated)
		crc = CRCAppend(crc, p.crc, CRCShift(int(p.size)))
		m.size += p.size
	}
	end := binary.LittleEndian.AppendUint32([]byte{1, 0, 0, 0xff, 0xff}, crc) // the last block, empty
	m.add(binary.LittleEndian.AppendUint32(end, uint32(m.size)))              //nolint:gosec // modulo 2^32, as the format has it
	return m
}

func (m *Member) add(chunk []byte) {
	m.chunks = append(m.chunks, chunk)
	m.zipped += int64(len(chunk))
}

// Zipped reads the member as it is.
func (m *Member) Zipped() io.ReadSeeker {
	return &reader{size: m.zipped, open: func() (io.Reader, error) { return m.chain(), nil }}
}

// Plain reads what is in the member.
func (m *Member) Plain() io.ReadSeeker {
	return &reader{size: m.size, open: func() (io.Reader, error) { return gzip.NewReader(m.chain()) }}
}

func (m *Member) chain() io.Reader {
	readers := make([]io.Reader, len(m.chunks))
	for i, c := range m.chunks {
		readers[i] = bytes.NewReader(c)
	}
	return io.MultiReader(readers...)
}

// reader seeks by reading again from the start.
type reader struct {
	size, at int64
	open     func() (io.Reader, error)
	from     io.Reader // stands at at; nil: not open
}

// Read implements io.Reader.
func (r *reader) Read(b []byte) (int, error) {
	if r.at >= r.size {
		return 0, io.EOF
	}
	if r.from == nil {
		from, err := r.open()
		if err != nil {
			return 0, err
		}
		if _, err := io.CopyN(io.Discard, from, r.at); err != nil {
			return 0, err
		}
		r.from = from
	}
	n, err := r.from.Read(b)
	r.at += int64(n)
	return n, err
}

// Seek implements io.Seeker.
func (r *reader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.at
	case io.SeekEnd:
		offset += r.size
	}
	if offset < 0 {
		return 0, io.ErrUnexpectedEOF
	}
	if offset != r.at {
		r.at, r.from = offset, nil
	}
	return offset, nil
}
