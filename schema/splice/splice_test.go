package splice_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"strings"
	"testing"

	"github.com/rowlock-io/rowlock/schema/splice"
)

func TestJoin(t *testing.T) {
	t.Parallel()
	parts := []string{"", "{", strings.Repeat("many words ", 20000), ",", "\x00\xff", strings.Repeat("x", 1<<16), "}"}
	var pieces []splice.Piece
	for i, p := range parts {
		piece := splice.Plain(p)
		if i%2 == 0 {
			piece = splice.Compress([]byte(p))
		}
		if got, err := piece.Bytes(); err != nil || string(got) != p {
			t.Fatalf("piece %d came back as %d bytes, %v", i, len(got), err)
		}
		pieces = append(pieces, piece)
	}
	want := strings.Join(parts, "")
	m := splice.Join(pieces)
	zipped, err := io.ReadAll(m.Zipped())
	if err != nil {
		t.Fatal(err)
	}
	r, err := gzip.NewReader(bytes.NewReader(zipped)) // which checks length and checksum
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || string(got) != want {
		t.Errorf("%d bytes instead of %d, %v", len(got), len(want), err)
	}
	if len(zipped) > len(want)/4 {
		t.Errorf("%d bytes were compressed to %d", len(want), len(zipped))
	}
	plain := m.Plain()
	for _, at := range []int64{0, 5, 100_000, 7, int64(len(want))} {
		if end, err := plain.Seek(0, io.SeekEnd); err != nil || end != int64(len(want)) {
			t.Fatal(end, err)
		}
		if _, err := plain.Seek(at, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(plain); err != nil || string(got) != want[at:] {
			t.Errorf("from %d: %d bytes, %v", at, len(got), err)
		}
	}
}
