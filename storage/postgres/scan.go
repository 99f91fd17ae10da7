package postgres

import (
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/rowlock-io/rowlock/storage"
)

// text scans a column of which most rows have the same value, and shares the memory between them. Null is empty.
type text struct{ value string }

// ScanBytes is pgtype.BytesScanner.
func (t *text) ScanBytes(v []byte) error {
	if string(v) != t.value { // compares without a copy
		t.value = string(v)
	}
	return nil
}

// whereRow scans what a read learns of its cluster, into types that pgx scans without reflection: it does so in each row.
type whereRow struct {
	head, epoch, floor int64
	current            bool
}

func (r *whereRow) where() where {
	return where{
		head: storage.Revision(r.head), floor: storage.Revision(r.floor), epoch: uint64(r.epoch), current: r.current,
	}
}

// keyRow scans a key. Keep one for all rows.
type keyRow struct{ resource, namespace, name text }

func (r *keyRow) key() storage.Key {
	return storage.Key{Resource: r.resource.value, Namespace: r.namespace.value, Name: r.name.value}
}

// changeRow scans a change that a left join may not have found. Keep one for all rows.
type changeRow struct {
	keyRow
	revision, prevRevision pgtype.Int8
	verb                   pgtype.Int2
	data, prev             []byte
	at                     pgtype.Timestamptz
}

func (r *changeRow) change() storage.Change {
	return storage.Change{
		Key: r.key(), Revision: storage.Revision(r.revision.Int64), Verb: storage.Verb(r.verb.Int16),
		Data: r.data, Prev: r.prev, PrevRevision: storage.Revision(r.prevRevision.Int64), Time: r.at.Time,
	}
}
