package object_test

import (
	"runtime"
	"testing"

	"github.com/rowlock-io/rowlock/schema/object"
)

// TestStatesOfThePastAreNotKeptDecoded: definitions that came and went left their decoded forms behind until others needed the
// room, which in a quiet cluster is never.
func TestStatesOfThePastAreNotKeptDecoded(t *testing.T) {
	t.Parallel()
	cfg, _ := podConfig()
	cfg.Hot = object.NewHot(1 << 20)
	c, other := object.NewCodec(cfg), object.NewCodec(cfg)
	views := map[string]*object.View{}
	for _, name := range []string{"a", "b", "c"} {
		e := entry(t, c, pod(name), 7)
		for _, v := range []*object.View{c.View(e), other.View(e)} {
			readTwice(t, v)
		}
		views[name] = e.Aux().(*object.View) // the first of a chain
	}
	all := cfg.Hot.Bytes()
	if all == 0 || all%3 != 0 {
		t.Fatalf("three alike take %d bytes", all)
	}
	views["b"].Superseded() // in the middle of the queue
	if got, want := cfg.Hot.Bytes(), all/3*2; got != want {
		t.Errorf("without one of three %d bytes are kept, want %d", got, want)
	}
	readTwice(t, views["b"])
	if got, want := cfg.Hot.Bytes(), all/3*2; got != want {
		t.Errorf("read again, it is kept again: %d bytes, want %d", got, want)
	}
	views["a"].Superseded()
	views["a"].Superseded()
	views["c"].Superseded()
	if got := cfg.Hot.Bytes(); got != 0 {
		t.Errorf("%d bytes are kept of nothing", got)
	}
}

func readTwice(t *testing.T, v *object.View) {
	t.Helper()
	for range 2 {
		if _, err := v.Object(); err != nil {
			t.Fatal(err)
		}
		runtime.GC() // nobody holds what the first reading has decoded, so that the second counts as another
	}
}
