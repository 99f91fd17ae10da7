package main

import (
	"os"
	"runtime/debug"
)

// room is how much a busy server may allocate between two collections, however little is alive. A small server that works
// would otherwise collect many times a second, each time marking what it marked just before.
const room = 64 << 20

const (
	usualPercent = 100  // Go's
	mostPercent  = 1000 // where hardly anything is alive
)

// percentFor is the GOGC of a server of whose heap so much is alive: bytes.
func percentFor(busy bool, alive uint64) int {
	if !busy || alive == 0 {
		return usualPercent
	}
	return int(min(max(room*100/alive, usualPercent), mostPercent))
}

// pace sets how often the heap is collected.
type pace struct {
	fixed   bool // by who started the process
	percent int
}

func newPace() *pace { return &pace{fixed: os.Getenv("GOGC") != "", percent: usualPercent} }

// set adjusts the pace; small changes are not worth the moment in which the process stands still for one.
func (p *pace) set(busy bool, alive uint64) {
	want := percentFor(busy, alive)
	if p.fixed || want == p.percent || want != usualPercent && 4*max(want-p.percent, p.percent-want) < p.percent {
		return
	}
	p.percent = want
	debug.SetGCPercent(want)
}
