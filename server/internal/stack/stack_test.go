package stack

import "testing"

// BenchmarkDeep shows what growing at once saves.
func BenchmarkDeep(b *testing.B) {
	for name, before := range map[string]func(){"as it comes": func() {}, "at once": Grow, "little": GrowLittle} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				done := make(chan int)
				go func() {
					before()
					done <- deep(90)
				}()
				<-done
			}
		})
	}
}

//go:noinline
func deep(n int) int {
	var frame [160]byte
	frame[n] = byte(n)
	if n == 0 {
		return 0
	}
	return deep(n-1) + int(frame[n])
}

// TestGrow: code behind Grow finds its goroutine as it was.
func TestGrow(t *testing.T) {
	t.Parallel()
	kept := 7
	p := &kept
	Grow()
	*p += deep(3)
	if kept != 7+6 {
		t.Errorf("got %d", kept)
	}
}
