package storagetest

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rowlock-io/rowlock/storage"
)

// testCommitOrder parks a commit just before it is visible and lets another replica write meanwhile. Whatever head
// is shown then, the parked commit must not turn up at or below it.
func testCommitOrder(t *testing.T, b Backend) {
	one, two, reader := b.Open(t), b.Open(t), b.Open(t)
	start := mustCommit(t, one, create(pod("default", "first"), `{}`)).Head
	release := b.Hold(t, create(pod("default", "parked"), `{}`))

	overtaking := make(chan error, 1)
	go func() {
		done, err := two.Commit(t.Context(), []storage.Op{create(pod("default", "overtaking"), `{}`)})
		if err == nil {
			err = done.Results[0].Err
		}
		overtaking <- err
	}()
	// A driver that lets the second commit pass shows it within this time, and fails below. One that makes it wait
	// shows nothing however long one looks.
	shown := []storage.Batch{}
	for range 20 {
		batch, err := reader.Changes(t.Context(), start, 0)
		if err != nil {
			t.Fatal(err)
		}
		head, err := reader.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if head.Revision < batch.Revision {
			t.Errorf("head is %d after changes up to %d were shown", head.Revision, batch.Revision)
		}
		shown = append(shown, batch, storage.Batch{Position: head, Changes: changesBetween(t, reader, start, head.Revision)})
		time.Sleep(5 * time.Millisecond)
	}
	release()
	if err := <-overtaking; err != nil {
		t.Fatal(err)
	}
	for _, batch := range shown {
		if diff := cmp.Diff(changesBetween(t, reader, start, batch.Revision), batch.Changes, sameChange); diff != "" {
			t.Fatalf("the log up to %d is not what it was when that was shown (-now +then):\n%s", batch.Revision, diff)
		}
	}
	if got := changesBetween(t, two, start, 0); len(got) != 2 {
		t.Errorf("got %d changes in the end, want both", len(got))
	}
}

// crowd has several replicas commit small batches at once, and returns how many ops succeeded.
func crowd(t *testing.T, b Backend, writers, commits int) int {
	t.Helper()
	var all sync.WaitGroup
	var mu sync.Mutex
	total := 0
	for w := range writers {
		s := b.Open(t)
		all.Go(func() {
			for i := range commits {
				ops := []storage.Op{
					create(pod("default", fmt.Sprintf("own-%d-%d", w, i)), `{}`),
					create(pod("default", fmt.Sprintf("contested-%d", i)), fmt.Sprintf(`{"by":%d}`, w)),
				}
				// Some are relaxed, so that readers see changes on their way from memory to the disk.
				for j := range ops {
					ops[j].Relaxed = (w+i)%2 == 0
				}
				done, err := s.Commit(t.Context(), ops)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for _, r := range done.Results {
					if r.Err == nil {
						total++
					}
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return total
}

func testOrdered(t *testing.T, b Backend) {
	crowd(t, b, 4, 10)
	var last storage.Revision
	for _, ch := range changesBetween(t, b.Open(t), 1, 0) {
		if ch.Revision <= last {
			t.Fatalf("%s at %d came after %d", ch.Key, ch.Revision, last)
		}
		last = ch.Revision
	}
}

func testUnique(t *testing.T, b Backend) {
	made := crowd(t, b, 4, 10)
	if want := 4*10 + 10; made != want { // each contested key is made once
		t.Errorf("%d writes succeeded, want %d", made, want)
	}
	revisions, keys := map[storage.Revision]bool{}, map[storage.Key]bool{}
	s := b.Open(t)
	for _, ch := range pagedChanges(t, s, 1, 7) {
		if revisions[ch.Revision] || keys[ch.Key] {
			t.Errorf("%s at %d came twice", ch.Key, ch.Revision)
		}
		revisions[ch.Revision], keys[ch.Key] = true, true
	}
	if len(revisions) != made {
		t.Errorf("the log has %d changes, want %d", len(revisions), made)
	}
}

// testReliable follows the log from another replica while others write.
func testReliable(t *testing.T, b Backend) {
	s := b.Open(t)
	finished := make(chan int, 1)
	go func() { finished <- crowd(t, b, 4, 10) }()
	var got []storage.Change
	after, made := storage.Revision(1), -1
	for made < 0 || len(got) < made {
		batch, err := s.Changes(t.Context(), after, 3)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, batch.Changes...)
		if made >= 0 && len(batch.Changes) == 0 {
			break
		}
		after = batch.Revision
		select {
		case made = <-finished:
		default:
		}
	}
	if len(got) != made {
		t.Errorf("followed %d changes, want %d", len(got), made)
	}
	if diff := cmp.Diff(changesBetween(t, s, 1, 0), got, sameChange); diff != "" {
		t.Errorf("what was followed is not the log (-log +followed):\n%s", diff)
	}
}

func testResumable(t *testing.T, b Backend) {
	crowd(t, b, 2, 10)
	one, two := b.Open(t), b.Open(t)
	whole := changesBetween(t, one, 1, 0)
	for i, ch := range whole {
		if diff := cmp.Diff(whole[i+1:], changesBetween(t, two, ch.Revision, 0), sameChange); diff != "" {
			t.Errorf("resumed after %d (-want +got):\n%s", ch.Revision, diff)
		}
	}
}

func testBookmarkable(t *testing.T, b Backend) {
	s := b.Open(t)
	finished := make(chan struct{})
	go func() { defer close(finished); crowd(t, b, 3, 10) }()
	type mark struct {
		head    storage.Revision
		changes int
	}
	var marks []mark
	for done := false; !done; {
		select {
		case <-finished:
			done = true
		default:
		}
		for _, limit := range []int{0, 2} {
			batch, err := s.Changes(t.Context(), 1, limit)
			if err != nil {
				t.Fatal(err)
			}
			marks = append(marks, mark{batch.Revision, len(batch.Changes)})
		}
	}
	whole := changesBetween(t, s, 1, 0)
	for _, m := range marks {
		n := 0
		for n < len(whole) && whole[n].Revision <= m.head {
			n++
		}
		if n != m.changes {
			t.Errorf("a batch up to %d had %d changes, the log has %d", m.head, m.changes, n)
		}
	}
}

// testLargeBatches: a driver may end a batch early, but then the batch is large; a reader takes a small one for the end
// of the log.
func testLargeBatches(t *testing.T, b Backend) {
	s := b.Open(t)
	const objects, size = 6, 4 << 20
	var want []storage.Revision
	for i := range objects {
		data := `{"pad":"` + strings.Repeat("x", size) + `"}`
		want = append(want, mustCommit(t, s, create(pod("default", fmt.Sprintf("large-%d", i)), data)).Head)
	}
	want = append(want, mustCommit(t, s, create(pod("default", "small"), `{}`)).Head)
	head := want[len(want)-1]
	for _, limit := range []int{0, 1000} {
		var got []storage.Revision
		for after := storage.Revision(1); after < head; {
			batch, err := s.Changes(t.Context(), after, limit)
			if err != nil {
				t.Fatal(err)
			}
			bytes := 0
			for _, ch := range batch.Changes {
				got = append(got, ch.Revision)
				bytes += len(ch.Data) + len(ch.Prev)
			}
			if batch.Revision <= after {
				t.Fatalf("batch after %d of %d ends there", after, head)
			}
			if batch.Revision < head && bytes < storage.MinBatchBytes {
				t.Errorf("batch of %d bytes ends at %d of %d", bytes, batch.Revision, head)
			}
			after = batch.Revision
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("revisions with limit %d (-want +got):\n%s", limit, diff)
		}
	}
}
