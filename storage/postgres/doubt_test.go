package postgres

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rowlock-io/rowlock/storage"
)

func key(name string) storage.Key {
	return storage.Key{Resource: "pods", Namespace: "default", Name: name}
}

func create(name, data string) storage.Op {
	return storage.Op{Key: key(name), Verb: storage.Create, Data: []byte(data)}
}

func mustCommit(t testing.TB, s storage.Store, ops ...storage.Op) storage.Committed {
	t.Helper()
	done, err := s.Commit(t.Context(), ops)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func mustHead(t testing.TB, s storage.Store) storage.Position {
	t.Helper()
	pos, err := s.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return pos
}

// names lists which keys the log holds after a revision, in order.
func names(t testing.TB, s storage.Store, after storage.Revision) (out []string) {
	t.Helper()
	b, err := s.Changes(t.Context(), after, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, ch := range b.Changes {
		out = append(out, ch.Name)
	}
	return out
}

const marker = "cut here"

// TestLostAnswer cuts the connection of a commit at chosen points. Whatever happened, the caller gets the true answer, and
// each op happened once.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	for name, meddle := range map[string]func(client, server net.Conn, request []byte){
		"before the request arrived": func(client, server net.Conn, _ []byte) {
			_ = client.Close()
			_ = server.Close()
		},
		"after the commit": func(client, server net.Conn, request []byte) {
			_, _ = server.Write(request)
			time.Sleep(200 * time.Millisecond) // most likely it is done by now; if not, the lock makes the search wait
			_ = client.Close()
		},
		"while it runs": func(client, server net.Conn, request []byte) {
			_, _ = server.Write(request)
			_ = client.Close()
		},
		"in the middle of the request": func(client, server net.Conn, request []byte) {
			_, _ = server.Write(request[:len(request)/2])
			_ = client.Close()
			_ = server.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := server.Database(t)
			p := newProxy(t, target)
			direct := newBackendAt(t, target).Open(t)
			s := storeOf(t, openAt(t, p.url))
			there := mustCommit(t, s, create("there", "{}")).Head // prepares the statement, too

			p.once(marker, meddle)
			done := mustCommit(t, s,
				create("one", marker), create("there", "{}"),
				storage.Op{Key: key("absent"), Verb: storage.Delete, Expect: there},
				create("two", "{}"),
			)
			want := storage.Committed{
				Before: storage.Position{Epoch: 1, Revision: there}, Head: there + 2, Time: done.Time,
				Results: []storage.Result{{Revision: there + 1}, {}, {}, {Revision: there + 2}},
			}
			for i, err := range map[int]error{1: storage.ErrExists, 2: storage.ErrNotFound} {
				if !errors.Is(done.Results[i].Err, err) {
					t.Errorf("op %d: got %v, want %v", i, done.Results[i].Err, err)
				}
				done.Results[i].Err = nil
			}
			if diff := cmp.Diff(want, done); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]string{"one", "two"}, names(t, direct, there)); diff != "" {
				t.Errorf("log (-want +got):\n%s", diff)
			}
		})
	}
}

// TestLateArrival delays a request until its caller has given it up, tried again and gone on. It must do nothing.
func TestLateArrival(t *testing.T) {
	t.Parallel()
	target := server.Database(t)
	p := newProxy(t, target)
	direct := newBackendAt(t, target).Open(t)
	s := storeOf(t, openAt(t, p.url))
	mustCommit(t, s, create("there", "{}"))

	late := make(chan func(), 1)
	p.once(marker, func(client, server net.Conn, request []byte) {
		late <- func() {
			_, _ = server.Write(request)
			// Its answer is swallowed by the proxy; asking the server to end makes sure that it was worked off.
			_, _ = server.Write([]byte{'X', 0, 0, 0, 4})
			_, _ = server.Read(make([]byte, 1))
		}
		_ = client.Close()
	})
	made := mustCommit(t, s, create("one", marker)).Head
	head := mustCommit(t, s, storage.Op{Key: key("one"), Verb: storage.Delete, Expect: made}).Head
	(<-late)()
	waitForNobody(t, target)
	if got := mustHead(t, direct).Revision; got != head {
		t.Errorf("the late request moved the head from %d to %d", head, got)
	}
	if _, err := direct.Get(t.Context(), key("one"), 0); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("the late request brought the object back: %v", err)
	}
}

// waitForNobody returns when no statement but our own runs in the database.
func waitForNobody(t testing.TB, url string) {
	t.Helper()
	exec(t, url, `DO $$ BEGIN
		WHILE EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'active') LOOP
			PERFORM pg_stat_clear_snapshot(), pg_sleep(0.01);
		END LOOP;
	END $$`)
}

// TestUnknown: while the database stays away, the caller is told the truth when his time is up.
func TestUnknown(t *testing.T) {
	t.Parallel()
	target := server.Database(t)
	p := newProxy(t, target)
	newBackendAt(t, target)
	s := storeOf(t, openAt(t, p.url))
	mustCommit(t, s, create("there", "{}"))

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p.once(marker, func(client, server net.Conn, request []byte) {
		p.mu.Lock()
		p.target = "127.0.0.1:1" // nobody listens there
		p.mu.Unlock()
		_ = client.Close()
		_ = server.Close()
		cancel()
	})
	_, err := s.Commit(ctx, []storage.Op{create("one", marker)})
	if !errors.Is(err, storage.ErrUnknown) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want ErrUnknown and the reason", err)
	}
}

// TestTerminated ends the backend of a commit that waits for its turn.
func TestTerminated(t *testing.T) {
	t.Parallel()
	b := newBackend(t).(*backend)
	s := b.Open(t)
	release := b.Hold(t, create("held", "{}"))
	answered := make(chan error, 1)
	go func() {
		_, err := s.Commit(t.Context(), []storage.Op{create("one", "{}")})
		answered <- err
	}()
	exec(t, b.url, `DO $$ BEGIN
		WHILE NOT EXISTS (SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				WHERE datname = current_database() AND wait_event_type = 'Lock') LOOP
			PERFORM pg_stat_clear_snapshot(), pg_sleep(0.01);
		END LOOP;
	END $$`)
	release()
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"held", "one"}, names(t, s, 1)); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}
