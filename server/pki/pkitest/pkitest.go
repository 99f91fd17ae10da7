// Package pkitest makes identities for tests.
package pkitest

import (
	"testing"

	"github.com/rowlock-io/rowlock/server/pki"
	"github.com/rowlock-io/rowlock/server/seal"
	"github.com/rowlock-io/rowlock/storage/memory"
)

// New makes the identity of a new cluster in memory.
func New(t testing.TB) *pki.Identity {
	t.Helper()
	db := memory.New()
	if err := db.CreateCluster(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	store, err := db.OpenCluster(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := seal.Parse(seal.Generate())
	if err != nil {
		t.Fatal(err)
	}
	id, err := pki.Load(t.Context(), store, keys)
	if err != nil {
		t.Fatal(err)
	}
	return id
}
