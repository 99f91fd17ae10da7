package main

import (
	"testing"
	"time"
)

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
		"large and busy": {
			200 * mb,
			[]uint64{40 * mb, 80 * mb, 120 * mb, 160 * mb, 200 * mb, 240 * mb},
			[]bool{false, false, false, false, true, false},
		},
		"slow and steady": {
			0,
			[]uint64{4 * mb, 8 * mb, 12 * mb, 16 * mb, 20 * mb, 24 * mb, 28 * mb, 32 * mb, 36 * mb, 40 * mb, 44 * mb, 48 * mb, 52 * mb, 56 * mb, 60 * mb, 64 * mb},
			[]bool{false, false, false, false, false, false, false, false, false, false, false, false, false, false, false, true},
		},
	} {
		q := quiet{burst: 64 * mb}
		for i, n := range tt.allocated {
			if _, got := q.look(n, tt.alive); got != tt.gives[i] {
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

func TestMapped(t *testing.T) {
	t.Parallel()
	const mb = 1 << 20
	now := time.Now()
	m := mapped{last: 10 * time.Minute}
	m.trimmed(20*mb, now, true)
	for _, tt := range []struct {
		after    time.Duration // the one before
		resident uint64
		want     bool
	}{
		{9 * time.Second, 100 * mb, false},
		{time.Second, 28 * mb, false},
		{0, 100 * mb, true},
		{10 * time.Second, 100 * mb, false}, // it came back at once
		{10 * time.Second, 100 * mb, true},
		{39 * time.Second, 100 * mb, false},
		{time.Second, 100 * mb, true},
	} {
		now = now.Add(tt.after)
		if got := m.grown(tt.resident, now); got != tt.want {
			t.Errorf("%d MB after %s: %v", tt.resident/mb, tt.after, got)
		}
		if tt.want {
			m.trimmed(20*mb, now, false)
		}
	}
	for range 20 {
		m.trimmed(20*mb, now, false)
	}
	if !m.grown(100*mb, now.Add(10*time.Minute)) {
		t.Error("it is never let go again")
	}
}
