package server_test

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rowlock-io/rowlock/server/seal"
	"github.com/rowlock-io/rowlock/server/servertest"
	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/memory"
	"github.com/rowlock-io/rowlock/storage/sqlite"
)

// failing is a database that can be away, or refuse writes as one that is full or read-only does.
type failing struct {
	storage.Database
	away, full atomic.Bool
}

func (d *failing) OpenCluster(ctx context.Context, name string) (storage.Store, error) {
	s, err := d.Database.OpenCluster(ctx, name)
	return &failingStore{s, d}, err
}

type failingStore struct {
	storage.Store
	db *failing
}

func (s *failingStore) err(bad bool, what string) error {
	if bad {
		return fmt.Errorf("%s: %w", what, storage.ErrBusy)
	}
	return nil
}

func (s *failingStore) Head(ctx context.Context) (storage.Position, error) {
	if err := s.err(s.db.away.Load(), "head"); err != nil {
		return storage.Position{}, err
	}
	return s.Store.Head(ctx)
}

func (s *failingStore) Commit(ctx context.Context, ops []storage.Op) (storage.Committed, error) {
	if err := s.err(s.db.away.Load() || s.db.full.Load(), "commit"); err != nil {
		return storage.Committed{}, err
	}
	return s.Store.Commit(ctx, ops)
}

func (s *failingStore) Ready(ctx context.Context) error {
	if err := s.err(s.db.away.Load(), "ready"); err != nil {
		return err
	}
	return s.Store.Ready(ctx)
}

// TestOutage takes the database away: clients are told to come back, probes tell, and afterwards all is as before.
func TestOutage(t *testing.T) {
	t.Parallel()
	db := &failing{Database: memory.New()}
	s := servertest.Start(t, servertest.Config{Database: db})
	const maps = "/api/v1/namespaces/default/configmaps"
	send := func(method, path, body string) *servertest.Response {
		r := servertest.Request{Method: method, Path: path, Body: body, Token: servertest.AdminToken}
		r.Header = http.Header{"Content-Type": {"application/json"}}
		return wire.Send(t, s.URL, r)
	}
	unavailable := func(when string, resp *servertest.Response) {
		t.Helper()
		if resp.Status != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || !strings.Contains(resp.Body, `"reason":"ServiceUnavailable"`) {
			t.Errorf("%s: %d, Retry-After %q, %s", when, resp.Status, resp.Header.Get("Retry-After"), resp.Body)
		}
	}
	if resp := send("POST", maps, `{"metadata":{"name":"before"}}`); resp.Status != 201 {
		t.Fatal(resp.Body)
	}
	db.full.Store(true)
	unavailable("create on a full database", send("POST", maps, `{"metadata":{"name":"during"}}`))
	unavailable("delete on a full database", send("DELETE", maps+"/before", ""))
	if resp := send("GET", maps+"/before", ""); resp.Status != 200 {
		t.Errorf("a read of a full database: %d %s", resp.Status, resp.Body)
	}
	db.away.Store(true)
	unavailable("create without a database", send("POST", maps, `{"metadata":{"name":"during"}}`))
	unavailable("get without a database", send("GET", maps+"/before", ""))
	unavailable("list without a database", send("GET", maps, ""))
	if resp := send("GET", maps+"?resourceVersion=0", ""); resp.Status != 200 || !strings.Contains(resp.Body, `"before"`) {
		t.Errorf("a read of what is known: %d %s", resp.Status, resp.Body)
	}
	if resp := send("GET", "/readyz", ""); resp.Status != 500 || !strings.Contains(resp.Body, "[-]etcd failed") {
		t.Errorf("/readyz without a database: %d %s", resp.Status, resp.Body)
	}
	db.away.Store(false)
	db.full.Store(false)
	if resp := send("POST", maps, `{"metadata":{"name":"after"}}`); resp.Status != 201 {
		t.Errorf("create afterwards: %d %s", resp.Status, resp.Body)
	}
	if resp := send("GET", maps+"/during", ""); resp.Status != 404 {
		t.Errorf("what was refused is there: %d %s", resp.Status, resp.Body)
	}
}

// TestCompacted reads a past that is gone, from a replica that has not seen it.
func TestCompacted(t *testing.T) {
	t.Parallel()
	db := memory.New()
	s := servertest.Start(t, servertest.Config{Database: db})
	ask := func(query string) *servertest.Response {
		return wire.Send(t, s.URL, servertest.Request{Method: "GET", Path: "/api/v1/namespaces?" + query, Token: servertest.AdminToken})
	}
	first := ask("limit=1")
	_, token, _ := strings.Cut(first.Body, `"continue":"`)
	token, _, _ = strings.Cut(token, `"`)
	if _, err := s.Client(t, servertest.Default).CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "new"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	store, err := db.OpenCluster(t.Context(), servertest.Default)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	head, err := store.Head(t.Context())
	if err != nil || token == "" {
		t.Fatalf("%v, continue %q", err, token)
	}
	if err := store.Compact(t.Context(), head.Revision); err != nil {
		t.Fatal(err)
	}
	s = servertest.Start(t, servertest.Config{Database: db, Keys: s.Keys})
	for query, want := range map[string]string{
		"resourceVersion=2&resourceVersionMatch=Exact":  "The resourceVersion for the provided list is too old.",
		"limit=1&continue=" + token:                     "The provided continue parameter is too old to display a consistent list result.",
		"watch=true&timeoutSeconds=5&resourceVersion=2": "The resourceVersion for the provided watch is too old.",
	} {
		resp := ask(query)
		watch := strings.HasPrefix(query, "watch")
		if !watch && resp.Status != http.StatusGone || watch && resp.Status != http.StatusOK ||
			!strings.Contains(resp.Body, want) || !strings.Contains(resp.Body, `"reason":"Expired"`) || !strings.Contains(resp.Body, `"code":410`) {
			t.Errorf("%s: %d %s", query, resp.Status, resp.Body)
		}
	}
}

// TestRestart stops a server and starts another on the same file: what was acknowledged is there, the authority is the
// same, and a wrong key opens nothing.
func TestRestart(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "rowlock.db")
	open := func() storage.Database {
		db, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
	db := open()
	s := servertest.Start(t, servertest.Config{Database: db})
	for i := range 20 {
		cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("c%d", i)}}
		if _, err := s.Client(t, servertest.Default).CoreV1().ConfigMaps("default").Create(t.Context(), cm, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	before := s.Identity(servertest.Default).ClusterCA.Bundle()
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = open()
	other, err := seal.Parse(seal.Generate())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := servertest.Open(t.Context(), t.TempDir(), servertest.Config{Database: db, Keys: other}); err == nil || !strings.Contains(err.Error(), "key") {
		t.Errorf("a wrong key: %v", err)
	}
	again := servertest.Start(t, servertest.Config{Database: db, Keys: s.Keys})
	all, err := again.Client(t, servertest.Default).CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(all.Items) != 20 {
		t.Errorf("%d of 20 objects, %v", len(all.Items), err)
	}
	if string(again.Identity(servertest.Default).ClusterCA.Bundle()) != string(before) {
		t.Error("the authority is another")
	}
}
