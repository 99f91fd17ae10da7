// Package early collects no garbage while the process starts. What a start allocates, in the initialisation of upstream's
// packages above all, mostly stays, so that marking it over and over again was a quarter of a start's CPU. When there are as
// many bytes as a start takes, or the start has ended, Go's usual pace comes back.
//
// It imports little, so that it is initialised before the packages that allocate.
package early

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

const (
	percent = 2000     // has the first collection at 80 MB: Go's own is at a 25th of it
	enough  = 48 << 20 // bytes that are allocated where the start has come far
)

// Node is the GOGC of nodes, from the start: garbage among what stays would be room that is never filled again, a fifth of a node's memory.
const Node = 50

func init() {
	switch {
	case os.Getenv("GOGC") != "":
	case len(os.Args) > 1 && os.Args[1] == "agent":
		debug.SetGCPercent(Node)
	default:
		debug.SetGCPercent(percent)
		watch()
	}
}

// watch ends it at a collection.
func watch() { runtime.AddCleanup(new(sentinel), collected, struct{}{}) }

// sentinel is garbage, so the next collection finds it.
type sentinel struct{ _ [64]byte }

// collected may still be about a collection that had begun before.
func collected(struct{}) {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Uint64() < enough {
		watch()
		return
	}
	End()
}

// End puts the usual pace back. Only the first call does.
var End = sync.OnceFunc(func() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(100)
	}
})
