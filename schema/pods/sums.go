package pods

import (
	"crypto/sha256"
	"sync"
)

type sum = [sha256.Size]byte

// maxSums bounds each of the two halves of sums.
const maxSums = 4096

// sums are the last some thousand sums that were added or asked for. The zero value is ready.
type sums struct {
	mu          sync.Mutex
	young, aged map[sum]struct{}
}

func (s *sums) has(key sum) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.young[key]; ok {
		return true
	}
	_, ok := s.aged[key]
	if ok {
		s.addLocked(key)
	}
	return ok
}

func (s *sums) add(key sum) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addLocked(key)
}

func (s *sums) addLocked(key sum) {
	if s.young == nil {
		s.young = map[sum]struct{}{}
	}
	if len(s.young) >= maxSums {
		s.young, s.aged = map[sum]struct{}{}, s.young
	}
	s.young[key] = struct{}{}
}
