package read

import (
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"github.com/rowlock-io/rowlock/schema/splice"
)

// TestCRCAppend compares with the CRC of the whole, for parts of all kinds of lengths.
func TestCRCAppend(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 2, 7, 8, 255, 256, 4095, 65536, 100_003} {
		for _, m := range []int{0, 1, 3, 64, 1000, 70_001} {
			whole := make([]byte, n+m)
			for i := range whole {
				whole[i] = byte(random.Uint32())
			}
			a, b := crc32.ChecksumIEEE(whole[:n]), crc32.ChecksumIEEE(whole[n:])
			if got, want := splice.CRCAppend(a, b, splice.CRCShift(m)), crc32.ChecksumIEEE(whole); got != want {
				t.Errorf("%d+%d bytes: %08x, want %08x", n, m, got, want)
			}
		}
	}
}

// TestRunsBound: however much is compressed, what is kept stays within the bound, and what was made last is there.
func TestRunsBound(t *testing.T) {
	t.Parallel()
	s := runs{max: 10_000}
	for i := range 1000 {
		rev := uint64(i + 1)
		items := []piece{{revision: 1}, {revision: 2}}
		r := &run{key: runKey{hash: rev}, revisions: revisionsOf(items), data: make([]byte, i%700)}
		s.put(r)
		if s.get(r.key, items) != r {
			t.Fatalf("run %d was not kept", i)
		}
		if s.get(r.key, items[:1]) != nil {
			t.Fatalf("run %d was found for other items", i)
		}
		var sum int64
		for _, r := range s.kept {
			sum += r.cost()
		}
		if sum != s.bytes || sum > s.max || len(s.kept) != len(s.queue) {
			t.Fatalf("after %d runs: %d bytes are kept, counted %d, in %d of %d runs", i, sum, s.bytes, len(s.kept), len(s.queue))
		}
	}
	s.put(&run{key: runKey{hash: 5000}, data: make([]byte, 5000)})
	if s.get(runKey{hash: 5000}, nil) != nil {
		t.Error("a run that would push out a good part of the others was kept")
	}
}
