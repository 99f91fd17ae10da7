package object_test

import (
	"runtime"
	"testing"

	"k8s.io/apiserver/pkg/apis/example"

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

// TestCool: everything can be let go, and comes back when it is asked for.
func TestCool(t *testing.T) {
	t.Parallel()
	cfg, _ := podConfig()
	cfg.Hot = object.NewHot(1 << 20)
	c := object.NewCodec(cfg)
	v := c.View(entry(t, c, pod("a"), 7))
	for range 2 {
		readTwice(t, v)
		if cfg.Hot.Bytes() == 0 {
			t.Fatal("nothing is kept")
		}
		cfg.Hot.Cool()
		if got := cfg.Hot.Bytes(); got != 0 {
			t.Fatalf("%d bytes are kept", got)
		}
	}
}

// TestSeedBeforeCommitted: who watches may read a state before who wrote it has come to say at which revision. They decoded
// what was there decoded.
func TestSeedBeforeCommitted(t *testing.T) {
	t.Parallel()
	cfg, count := podConfig()
	cfg.Hot = object.NewHot(1 << 20)
	c := object.NewCodec(cfg)
	e := entry(t, c, pod("a"), 7)
	v := c.Written(e.Key, bytesOf(t, e))
	v.Seed(pod("a"))
	e.SetAux(v)
	got, err := c.View(e).Object()
	if err != nil {
		t.Fatal(err)
	}
	v.Committed(7)
	if again, err := v.Object(); err != nil || again != got {
		t.Errorf("another object after Committed: %v", err)
	}
	if got := got.(*example.Pod).ResourceVersion; got != "7" {
		t.Errorf("resourceVersion %q", got)
	}
	if n := count.decodes.Load(); n != 0 {
		t.Errorf("%d decodes", n)
	}
}
