package main

import "testing"

func TestQuiet(t *testing.T) {
	t.Parallel()
	const mb = 1 << 20
	for name, tt := range map[string]struct {
		alive     uint64
		allocated []uint64
		gives     []bool
	}{
		"idle":          {0, []uint64{0, 1 * mb, 2 * mb, 3 * mb}, []bool{false, false, false, false}},
		"burst":         {0, []uint64{50 * mb, 100 * mb, 101 * mb, 102 * mb}, []bool{false, false, true, false}},
		"small burst":   {0, []uint64{30 * mb, 31 * mb, 32 * mb}, []bool{false, false, false}},
		"two bursts":    {0, []uint64{99 * mb, 99 * mb, 200 * mb, 200 * mb}, []bool{false, true, false, true}},
		"never quiet":   {0, []uint64{99 * mb, 199 * mb, 299 * mb}, []bool{false, false, false}},
		"much is alive": {200 * mb, []uint64{150 * mb, 151 * mb, 300 * mb, 301 * mb}, []bool{false, false, false, true}},
		"slow and steady": {
			0,
			[]uint64{4 * mb, 8 * mb, 12 * mb, 16 * mb, 20 * mb, 24 * mb, 28 * mb, 32 * mb, 36 * mb, 40 * mb, 44 * mb, 48 * mb, 52 * mb, 56 * mb, 60 * mb, 64 * mb},
			[]bool{false, false, false, false, false, false, false, false, false, false, false, false, false, false, false, true},
		},
	} {
		var q quiet
		for i, n := range tt.allocated {
			if got := q.look(n, tt.alive); got != tt.gives[i] {
				t.Errorf("%s: look %d: %v", name, i, got)
			}
		}
	}
	before := allocated()
	kept := make([]byte, mb)
	if after := allocated(); after-before < uint64(len(kept)) {
		t.Errorf("allocated %d bytes, counted %d", len(kept), after-before)
	}
}
