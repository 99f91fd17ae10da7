package retention

import (
	"testing"
	"time"
)

// TestInterval shows how often a keeper looks: a short history is let go when it is due, not a minute later.
func TestInterval(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		cfg  Config
		want time.Duration
	}{
		{"default", Config{}, time.Minute},
		{"any age", Config{MaxAge: -1}, time.Minute},
		{"long", Config{MaxAge: time.Hour}, time.Minute},
		{"short", Config{MaxAge: 10 * time.Second}, 10 * time.Second},
		{"very short", Config{MaxAge: time.Millisecond}, time.Second},
		{"said", Config{MaxAge: time.Second, Interval: time.Hour}, time.Hour},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := newKeeper(tt.cfg).interval; got != tt.want {
				t.Errorf("the keeper looks every %v, expected %v", got, tt.want)
			}
		})
	}
}
