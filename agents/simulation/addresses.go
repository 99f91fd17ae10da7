package simulation

import (
	"fmt"
	"net/netip"
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// addresses gives each pod one of each range. It is safe for concurrent use.
type addresses struct {
	mu     sync.Mutex
	ranges []*span
	of     map[types.UID][]netip.Addr
}

// span is a range; its first address and, of IPv4, its last are nobody's.
type span struct {
	prefix netip.Prefix
	last   netip.Addr // given, or the range's first
	owner  map[netip.Addr]types.UID
}

func newAddresses(ranges []netip.Prefix) *addresses {
	a := &addresses{of: map[types.UID][]netip.Addr{}}
	for _, r := range ranges {
		r = r.Masked()
		a.ranges = append(a.ranges, &span{prefix: r, last: r.Addr(), owner: map[netip.Addr]types.UID{}})
	}
	return a
}

// assign gives a pod its addresses, the same ones each time.
func (a *addresses) assign(pod types.UID) ([]netip.Addr, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if given := a.of[pod]; len(given) > 0 {
		return given, nil
	}
	var given []netip.Addr
	for _, s := range a.ranges {
		addr, ok := s.free()
		if !ok {
			return nil, fmt.Errorf("every address in %s is taken", s.prefix)
		}
		given = append(given, addr)
	}
	for i, s := range a.ranges {
		s.owner[given[i]], s.last = pod, given[i]
	}
	a.of[pod] = given
	return given, nil
}

// reserve notes what a pod has.
func (a *addresses) reserve(pod types.UID, has []netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.of[pod]) > 0 || len(has) == 0 {
		return
	}
	a.of[pod] = has
	for _, addr := range has {
		for _, s := range a.ranges {
			if _, taken := s.owner[addr]; !taken && s.prefix.Contains(addr) {
				s.owner[addr] = pod
			}
		}
	}
}

// release takes back what a pod had.
func (a *addresses) release(pod types.UID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, addr := range a.of[pod] {
		for _, s := range a.ranges {
			if s.owner[addr] == pod {
				delete(s.owner, addr)
			}
		}
	}
	delete(a.of, pod)
}

// free is the next address after the last one that nobody has: one that was given back is not given again at once.
func (s *span) free() (netip.Addr, bool) {
	start := s.last
	for addr := start.Next(); addr != start; addr = addr.Next() {
		if !s.prefix.Contains(addr) {
			if addr = s.prefix.Addr(); addr == start {
				break
			}
			continue
		}
		if _, taken := s.owner[addr]; taken || addr == s.prefix.Addr() || addr.Is4() && !s.prefix.Contains(addr.Next()) {
			continue
		}
		return addr, true
	}
	_, taken := s.owner[start]
	return start, !taken && start != s.prefix.Addr()
}
