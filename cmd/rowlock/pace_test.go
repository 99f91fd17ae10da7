package main

import "testing"

func TestPercentFor(t *testing.T) {
	t.Parallel()
	const mb = 1 << 20
	for _, tt := range []struct {
		busy  bool
		alive uint64
		want  int
	}{
		{false, 30 * mb, 100},
		{true, 0, 100},
		{true, mb, 1000},
		{true, 32 * mb, 200},
		{true, 64 * mb, 100},
		{true, 500 * mb, 100},
	} {
		if got := percentFor(tt.busy, tt.alive); got != tt.want {
			t.Errorf("percentFor(%v, %d MB) = %d, expected %d", tt.busy, tt.alive/mb, got, tt.want)
		}
	}
}
