// Package storage is the contract between Rowlock and a database: keys, bytes and revisions, and one ordered log of
// changes per cluster. It knows no Kubernetes types and imports only the standard library.
//
// Every promise below has a test of the same name in storage/storagetest, which each driver passes:
//
//	Conditional         a wrong Expect changes nothing and says which: exists, not found, conflict
//	Independent         ops of one commit succeed or fail singly; each that succeeds has a revision of its own
//	ReadOwnWrites       once Commit returned r, any replica asked for "not older than r" sees it
//	CommitOrder         once Head or Changes showed r, nothing at or below r can newly appear
//	Ordered, Unique     changes come in revision order, each once
//	Reliable, Resumable no gap; resuming after r continues exactly, from any replica
//	Bookmarkable        a batch whose Head is r holds everything up to r
//	OneSnapshot         all pages of one list show the first page's revision
//	Compacted, Future   too old or too new is an error of its own, never a silent gap
//	ByteOrder           keys sort by bytes whatever the database's collation
//	Relaxed             a relaxed write is visible at once; when a crash loses it, no revision shown before is shown again
//	Isolated            nothing of one cluster is visible through another
//	Cancel, Closed      cancelled calls return soon and leave no open transaction; use after Close errors
package storage

import (
	"cmp"
	"context"
	"errors"
	"time"
)

// The errors that drivers return, wrapped with a few words of what was tried. Test with errors.Is.
var (
	ErrNotFound  = errors.New("storage: not found")
	ErrExists    = errors.New("storage: already exists")
	ErrConflict  = errors.New("storage: revision conflict")
	ErrCompacted = errors.New("storage: revision compacted")
	ErrFuture    = errors.New("storage: revision not reached")
	ErrTooLarge  = errors.New("storage: object too large")
	// ErrBusy: nothing was written; the same call may succeed later (database away, full, read-only or overloaded).
	ErrBusy = errors.New("storage: temporarily unavailable")
	// ErrUnknown: whether the commit happened could not be found out before ctx ended.
	ErrUnknown = errors.New("storage: outcome unknown")
	ErrClosed  = errors.New("storage: closed")
	// ErrSchema: the database holds a schema this binary must not touch (newer, or not ours).
	ErrSchema = errors.New("storage: schema not supported")
	// ErrInUse: another process has this database to itself (SQLite).
	ErrInUse = errors.New("storage: database in use")
)

// MaxObjectBytes bounds one object's Data; larger ones are refused with ErrTooLarge.
const MaxObjectBytes = 8 << 20

// MinBatchBytes is what a batch of changes holds at least, counting Data and Prev, when it ends before its limit and
// before the head. So a smaller one shows a reader, without another question, that it has caught up.
const MinBatchBytes = 1 << 20

// Revision numbers a cluster's changes, from 1 up, in commit order. Gaps are harmless. 0 means "none".
type Revision uint64

// Key names an object within its cluster. Keys order by the bytes of Resource, then Namespace, then Name.
type Key struct {
	Resource  string // plural, and ".group" unless the group is empty: "pods", "deployments.apps"
	Namespace string // empty for cluster-scoped resources
	Name      string
}

// Compare orders keys by bytes.
func (k Key) Compare(o Key) int {
	if c := cmp.Compare(k.Resource, o.Resource); c != 0 {
		return c
	}
	if c := cmp.Compare(k.Namespace, o.Namespace); c != 0 {
		return c
	}
	return cmp.Compare(k.Name, o.Name)
}

// String renders the key for messages: resource/namespace/name.
func (k Key) String() string {
	if k.Namespace == "" {
		return k.Resource + "/" + k.Name
	}
	return k.Resource + "/" + k.Namespace + "/" + k.Name
}

// Object is the present state of a key. Data is JSON without a resourceVersion; it is shared and must not be changed.
type Object struct {
	Key
	Revision Revision // of the change that made this state
	Data     []byte
}

// Position is a point in a cluster's log. Epoch changes when the database came back without changes that it may have
// shown before (a crash that lost relaxed writes, a failover to a replica that lagged): whatever was cached under
// another epoch must be thrown away, and revisions at or below the epoch's start can no longer be resumed from.
type Position struct {
	Epoch    uint64
	Revision Revision
}

// Verb says what a change did to its key.
type Verb uint8

const (
	Create Verb = iota + 1
	Update
	Delete
)

// Change is a row of the log: what one write did.
type Change struct {
	Key
	Revision     Revision
	Verb         Verb
	Data         []byte // the state after; nil for Delete
	Prev         []byte // the state before; nil for Create
	PrevRevision Revision
	Time         time.Time // by the database's clock, for people; nothing is ordered by it
}

// Op is one conditional write.
type Op struct {
	Key    Key
	Verb   Verb
	Expect Revision // Create: must be 0. Update, Delete: the revision replaced
	Data   []byte   // nil for Delete
	// Relaxed lets the write be acknowledged before it is on disk (Leases, Events). A commit waits for the disk if
	// any of its ops is not relaxed.
	Relaxed bool
}

// Result answers one Op. On an error nothing of that op happened: ErrExists, ErrNotFound, ErrConflict or ErrTooLarge.
type Result struct {
	Revision Revision
	Err      error
}

// Committed answers a Commit: the n ops that succeeded have the revisions Before+1 … Before+n in the order of ops,
// and the log had nothing between Before.Revision and the first of them.
type Committed struct {
	Before  Position // the head just before; its Epoch is the one the commit happened in
	Head    Revision // the head just after
	Time    time.Time
	Results []Result // one for each op, in order
}

// Selector picks a collection. An empty Resource means every resource; an empty Namespace every namespace; Name, with
// Resource set, one object.
type Selector struct {
	Resource, Namespace, Name string
}

// Matches tells whether a key is in the selection.
func (s Selector) Matches(k Key) bool {
	return (s.Resource == "" || s.Resource == k.Resource) &&
		(s.Namespace == "" || s.Namespace == k.Namespace) &&
		(s.Name == "" || s.Name == k.Name)
}

// ListOptions bounds a List.
type ListOptions struct {
	Revision Revision // read the collection exactly as it was at this revision; 0: now
	After    Key      // start behind this key; zero: at the start
	Limit    int      // at most so many objects; 0: all
}

// Page is a part of a collection, in key order, as it was at Position.Revision.
type Page struct {
	Position
	Objects []Object
	More    bool
}

// Batch is a stretch of the log. Head is the last revision the batch speaks for: every change after the asked revision
// and up to Head is in Changes.
type Batch struct {
	Position // Revision is Head
	Changes  []Change
}

// Reader reads the present, or an exact revision of the past down to the compacted floor.
type Reader interface {
	// Get returns one object, or ErrNotFound. At revision 0 it reads the present.
	Get(ctx context.Context, key Key, at Revision) (Object, error)
	List(ctx context.Context, sel Selector, opts ListOptions) (Page, error)
	// Head returns the position of the newest change that any replica may have shown. It never goes back.
	Head(ctx context.Context) (Position, error)
}

// Writer writes. Every write is conditional. Commit carries many independent ops on distinct keys in one transaction
// and answers each on its own; storage/commit gathers concurrent callers into it. Commit itself finds out a lost
// outcome from the log; it returns ErrBusy only when nothing was written.
type Writer interface {
	Commit(ctx context.Context, ops []Op) (Committed, error)
}

// Log is the ordered log of changes.
type Log interface {
	// Changes returns up to limit changes after a revision, fewer only at the head or when they are large, see
	// MinBatchBytes: ErrCompacted when some of them are gone, ErrFuture when after is beyond the head.
	Changes(ctx context.Context, after Revision, limit int) (Batch, error)
	// Wake signals that the head may have moved by somebody else's commit. Signals coalesce and may be false; one
	// comes within a second or two of every foreign commit (the driver's poll), even when notifications are lost.
	Wake() <-chan struct{}
	// Floor is the compaction floor: changes after it can be read, revisions at or above it can be read exactly.
	Floor(ctx context.Context) (Revision, error)
	// Horizon returns the newest revision that retention lets go: everything at or below it is older than maxAge, or
	// has to go for the log to hold at most maxBytes. Zero values mean "no bound".
	Horizon(ctx context.Context, maxAge time.Duration, maxBytes int64) (Revision, error)
	// Compact raises the floor to through and drops what lies below, in bounded steps. It never lowers it.
	Compact(ctx context.Context, through Revision) error
}

// Store is one cluster's part of a database. It is safe for concurrent use.
type Store interface {
	Reader
	Writer
	Log
	Ready(ctx context.Context) error
	Close() error
}

// Cluster is a row of the catalogue of clusters.
type Cluster struct {
	Name    string
	Created time.Time
}

// Database holds any number of clusters.
type Database interface {
	Clusters(ctx context.Context) ([]Cluster, error)
	// CreateCluster makes an empty cluster, or returns ErrExists. Its head is revision 1 and its first change 2, so
	// that even an empty list has a revision that can be asked for again.
	CreateCluster(ctx context.Context, name string) error
	// OpenCluster returns a handle on a cluster's part: ErrNotFound when there is none of that name.
	OpenCluster(ctx context.Context, name string) (Store, error)
	// DropCluster removes a cluster and all that is in it.
	DropCluster(ctx context.Context, name string) error
	Ready(ctx context.Context) error
	Close() error
}
