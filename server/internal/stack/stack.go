// Package stack gives goroutines that are about to call deeply the room for it at once. A goroutine starts with a few
// kilobytes and doubles them when they are full; each time all its frames are walked and moved, which took a tenth of the
// time of a write. While the stack is still shallow there is next to nothing to move.
package stack

// Room is what Grow makes sure of, in bytes. The deepest calls, patches of pods, take about as much.
const Room = 24 << 10

// Little is what GrowLittle makes sure of, in bytes: what a read that is answered from stored bytes takes. The stack then
// has 16 kB, which is the most that the runtime hands out and takes back without a lock that all threads share.
const Little = 12 << 10

// Grow makes room on the stack of the calling goroutine. The runtime takes it back from those that wait for long.
func Grow() { grow(false) }

// GrowLittle is Grow for calls that are not so deep.
func GrowLittle() { growLittle(false) }

// grow needs a frame for the array, though nobody uses it: so nothing clears it.
//
//go:noinline
func grow(use bool) {
	if use {
		var room [Room]byte
		touch(&room)
	}
}

//go:noinline
func growLittle(use bool) {
	if use {
		var room [Little]byte
		touchLittle(&room)
	}
}

// touch keeps the compiler from leaving the array out.
//
//go:noinline
func touch(room *[Room]byte) { room[0] = 1 }

//go:noinline
func touchLittle(room *[Little]byte) { room[0] = 1 }
