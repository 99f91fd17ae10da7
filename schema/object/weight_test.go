package object_test

import (
	"testing"

	"github.com/rowlock-io/rowlock/schema/object"
)

// TestWrittenDefinitionsDoNotOutgrowTheBound: decoded definitions take many times their JSON, and are counted as that also
// when they were not decoded but kept from a write. Making and deleting them took twice the bound and more.
func TestWrittenDefinitionsDoNotOutgrowTheBound(t *testing.T) {
	t.Parallel()
	const weight = 10
	cfg, _ := podConfig()
	cfg.Weight = weight
	cfg.Hot = object.NewHot(1 << 20)
	c := object.NewCodec(cfg)
	e := entry(t, c, pod("a"), 7)
	plain, err := c.Encode(pod("a"))
	if err != nil {
		t.Fatal(err)
	}
	v := c.Written(e.Key, plain)
	e.SetAux(v)
	v.Seed(pod("a"))
	v.Committed(7)
	if _, err := v.Object(); err != nil {
		t.Fatal(err)
	}
	if got, want := cfg.Hot.Bytes(), int64(weight*len(plain)); got != want {
		t.Errorf("counted as %d bytes, want %d", got, want)
	}
}
