package object

import (
	"math/rand/v2"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/labels"
)

// TestSelectorSelectsTheSame asks random selectors about random labels, as upstream has them and prepared.
func TestSelectorSelectsTheSame(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // for a test
	one := func(of ...string) string { return of[random.IntN(len(of))] }
	key := func() string { return one("a", "b", "c.io/d") }
	value := func() string { return one("", "1", "2", "x") }
	codec := &Codec{}
	for range 20000 {
		var terms []string
		for range 1 + random.IntN(3) {
			terms = append(terms, one(
				key()+"="+value(), key()+"=="+value(), key()+"!="+value(), key(), "!"+key(),
				key()+" in ("+value()+","+value()+")", key()+" notin ("+value()+","+value()+")", key()+">1", key()+"<2",
			))
		}
		text := strings.Join(terms, ",")
		sel, err := labels.Parse(text)
		if err != nil {
			t.Fatal(text, err)
		}
		var p pairs
		for range random.IntN(4) {
			if k := key(); !p.Has(k) {
				p = append(p, k, value())
			}
		}
		if got, want := codec.Selector(sel).Matches(&p), sel.Matches(&p); got != want {
			t.Fatalf("%q selects %q: %v, upstream %v", text, p, got, want)
		}
		if got, want := codec.Selector(sel).Matches(labels.Set(p.set())), sel.Matches(labels.Set(p.set())); got != want {
			t.Fatalf("%q selects the set %q: %v, upstream %v", text, p, got, want)
		}
	}
	if sel := codec.Selector(labels.Nothing()); sel.Matches(&pairs{"a", "1"}) {
		t.Error("nothing selects something")
	}
}
