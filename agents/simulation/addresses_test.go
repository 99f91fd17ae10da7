package simulation

import (
	"net/netip"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
)

func TestAddresses(t *testing.T) {
	t.Parallel()
	a := newAddresses([]netip.Prefix{netip.MustParsePrefix("10.1.2.9/29"), netip.MustParsePrefix("fd00::/64")})
	a.reserve("had", []netip.Addr{netip.MustParseAddr("10.1.2.10"), netip.MustParseAddr("192.0.2.1")})
	give := func(pod types.UID) string {
		t.Helper()
		got, err := a.assign(pod)
		if err != nil {
			return err.Error()
		}
		text := ""
		for _, addr := range got {
			text += addr.String() + " "
		}
		return text
	}
	var got []string
	for i := range 6 {
		got = append(got, give(types.UID(strconv.Itoa(i))))
	}
	want := []string{
		"10.1.2.9 fd00::1 ", "10.1.2.11 fd00::2 ", "10.1.2.12 fd00::3 ", "10.1.2.13 fd00::4 ", "10.1.2.14 fd00::5 ",
		"every address in 10.1.2.8/29 is taken",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if again := give("2"); again != want[2] {
		t.Errorf("again: %s", again)
	}
	a.release("had")
	if got := give("6"); got != "10.1.2.10 fd00::6 " {
		t.Errorf("after one was given back: %s", got)
	}
	a.release("4")
	if got := give("7"); got != "10.1.2.14 fd00::7 " {
		t.Errorf("after the last was given back: %s", got)
	}
	if got := give("8"); got != want[5] {
		t.Errorf("when all are taken: %s", got)
	}
}

func TestNodeAddress(t *testing.T) {
	t.Parallel()
	seen := map[netip.Addr]bool{}
	for i := range MaxNodes {
		addr := nodeAddress(ownPrefix + strconv.Itoa(i))
		if seen[addr] || !netip.MustParsePrefix("198.18.0.0/16").Contains(addr) {
			t.Fatalf("node %d: %s", i, addr)
		}
		seen[addr] = true
	}
	for _, name := range []string{"sim-01", "sim--1", "sim-", "other", "sim-70000"} {
		if addr := nodeAddress(name); !netip.MustParsePrefix("198.19.0.0/16").Contains(addr) {
			t.Errorf("%s: %s", name, addr)
		}
	}
}
