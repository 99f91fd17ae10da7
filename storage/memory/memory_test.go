package memory_test

import (
	"sync"
	"testing"

	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/memory"
	"github.com/rowlock-io/rowlock/storage/storagetest"
)

const clusterName = "test"

type backend struct{ db *memory.Database }

func newBackend(t testing.TB) storagetest.Backend {
	db := memory.New()
	if err := db.CreateCluster(t.Context(), clusterName); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return &backend{db}
}

func (b *backend) Database(testing.TB) storage.Database { return b.db }

func (b *backend) Open(t testing.TB) storage.Store {
	s, err := b.db.OpenCluster(t.Context(), clusterName)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (b *backend) Hold(t testing.TB, ops ...storage.Op) func() {
	s := b.Open(t)
	parked, resume, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var once sync.Once
	b.db.ParkIn(clusterName, func(got []storage.Op) {
		if got[0].Key == ops[0].Key {
			once.Do(func() { close(parked); <-resume })
		}
	})
	go func() {
		defer close(done)
		if _, err := s.Commit(t.Context(), ops); err != nil {
			t.Errorf("held commit: %v", err)
		}
	}()
	<-parked
	release := sync.OnceFunc(func() { close(resume); <-done })
	t.Cleanup(release)
	return release
}

// Crash loses nothing: there are no relaxed writes here, and this process is the disk.
func (b *backend) Crash(t testing.TB) {
	b.db.CloseHandles(clusterName)
}

func TestStorage(t *testing.T) { storagetest.Run(t, newBackend) }

func BenchmarkStorage(b *testing.B) { storagetest.Bench(b, newBackend) }
