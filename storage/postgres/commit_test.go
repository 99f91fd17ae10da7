package postgres

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rowlock-io/rowlock/storage"
)

// TestSmallAndLarge: rowlock_commit takes the ops of a small commit one by one and those of a large one together. Both leave the
// same answers, objects and log, down to what retention counts.
func TestSmallAndLarge(t *testing.T) {
	t.Parallel()
	url := server.Database(t)
	d := openAt(t, url)
	var stores [2]*Store
	for i, name := range []string{"small", "large"} {
		if err := d.CreateCluster(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		s, err := d.OpenCluster(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		stores[i] = s.(*Store)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	present := map[storage.Key]storage.Revision{}
	for round := range 40 {
		ops := randomOps(random, present, 9+random.IntN(40))
		results := [2][]storage.Result{}
		for i, s := range stores {
			step := len(ops)
			if i == 0 {
				step = 1 + random.IntN(8)
			}
			for at := 0; at < len(ops); at += step {
				done, err := s.Commit(t.Context(), ops[at:min(at+step, len(ops))])
				if err != nil {
					t.Fatal(err)
				}
				results[i] = append(results[i], done.Results...)
			}
		}
		if diff := cmp.Diff(results[0], results[1], cmp.Comparer(sameText)); diff != "" {
			t.Fatalf("round %d: results (-small +large):\n%s", round, diff)
		}
		for i, r := range results[0] {
			switch {
			case r.Err != nil:
			case ops[i].Verb == storage.Delete:
				delete(present, ops[i].Key)
			default:
				present[ops[i].Key] = r.Revision
			}
		}
	}
	for _, what := range []string{
		"SELECT row(revision, volume, segment)::text FROM clusters WHERE id = $1",
		"SELECT row(revision, resource, namespace, name, data)::text FROM objects WHERE cluster = $1 ORDER BY resource, namespace, name",
		`SELECT row(revision, prev_revision, volume, segment, verb, resource, namespace, name, data, prev)::text FROM changes
			WHERE cluster = $1 ORDER BY revision`,
	} {
		small, large := column(t, d, what, stores[0].id), column(t, d, what, stores[1].id)
		if diff := cmp.Diff(small, large); diff != "" || len(small) == 0 {
			t.Errorf("%s: %d rows (-small +large):\n%s", what, len(small), diff)
		}
	}
}

func sameText(a, b error) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

// randomOps makes ops on distinct keys, of which about a third fail.
func randomOps(random *rand.Rand, present map[storage.Key]storage.Revision, n int) []storage.Op {
	ops := make([]storage.Op, 0, n)
	for _, k := range random.Perm(60)[:n] {
		op := storage.Op{
			Key:  storage.Key{Resource: "pods", Namespace: fmt.Sprint("ns-", k%3), Name: fmt.Sprint("p-", k)},
			Verb: storage.Verb(1 + random.IntN(3)),
		}
		if op.Verb != storage.Create {
			op.Expect = present[op.Key]
			if random.IntN(4) == 0 {
				op.Expect += storage.Revision(random.IntN(3))
			}
		}
		if op.Verb != storage.Delete {
			op.Data = make([]byte, random.IntN(3)*random.IntN(3000))
			for i := range op.Data {
				op.Data[i] = byte('a' + random.IntN(1+random.IntN(20)))
			}
		}
		ops = append(ops, op)
	}
	return ops
}

// column reads a column of text.
func column(t *testing.T, d *Database, sql string, args ...any) (out []string) {
	t.Helper()
	rows, err := d.pool.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		out = append(out, text)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}
