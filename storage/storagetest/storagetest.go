// Package storagetest is the suite that every storage driver passes: a test for each promise of package storage, a
// test of random operations against storage/memory, and benchmarks.
package storagetest

import (
	"testing"

	"github.com/rowlock-io/rowlock/storage"
)

// Backend is one fresh database with one cluster in it, of any name. What it opens it also closes when the test ends.
type Backend interface {
	// Open returns one more replica's handle on the cluster.
	Open(t testing.TB) storage.Store
	// Database returns one more replica's handle on the database (or the same, where a database has one process).
	Database(t testing.TB) storage.Database
	// Hold parks a commit of ops just before it is visible; where writers are serialized, others may wait for release.
	// release lets it go on and returns when it is committed. Called again, it does nothing.
	Hold(t testing.TB, ops ...storage.Op) (release func())
	// Crash ends all that was opened so far as if the machine lost power (a driver without relaxed durability may
	// merely drop its connections). What is opened next finds what was on disk.
	Crash(t testing.TB)
}

// Run runs the suite; newBackend is called for each test.
func Run(t *testing.T, newBackend func(testing.TB) Backend) {
	for _, tc := range promises() {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.run(t, newBackend(t))
		})
	}
	t.Run("Model", func(t *testing.T) {
		t.Parallel()
		testModel(t, newBackend)
	})
}

// Bench runs the benchmarks.
func Bench(b *testing.B, newBackend func(testing.TB) Backend) {
	for _, bc := range benchmarks() {
		b.Run(bc.name, func(b *testing.B) {
			b.ReportAllocs()
			bc.run(b, newBackend(b))
		})
	}
}

type promise struct {
	name string
	run  func(*testing.T, Backend)
}

type benchmark struct {
	name string
	run  func(*testing.B, Backend)
}
