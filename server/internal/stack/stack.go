// Package stack gives goroutines that are about to call deeply the room for it at once. A goroutine starts with a few
// kilobytes and doubles them when they are full; each time all its frames are walked and moved, which took a tenth of the
// time of a write. While the stack is still shallow there is next to nothing to move.
package stack

// Room is what Grow makes sure of, in bytes. The deepest calls, patches of pods, take about as much.
const Room = 24 << 10

// Grow makes room on the stack of the calling goroutine. The runtime takes it back from those that wait for long.
//
//go:noinline
func Grow() {
	var room [Room]byte
	touch(&room)
}

// touch keeps the compiler from leaving the array out.
//
//go:noinline
func touch(room *[Room]byte) { room[0] = 1 }
