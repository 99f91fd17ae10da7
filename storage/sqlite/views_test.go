package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rowlock-io/rowlock/storage"
)

// TestViews reads the database as an operator does.
func TestViews(t *testing.T) {
	t.Parallel()
	b := open(t, Config{})
	s := b.Open(t)
	lease := op("l", false)
	made := commit(t, s, lease).Head
	sealed := storage.Op{Key: storage.Key{Resource: "secrets", Namespace: "n", Name: "s"}, Verb: storage.Create, Data: []byte("enc:\x00\xff\x01")}
	node := storage.Op{Key: storage.Key{Resource: "nodes", Name: "m"}, Verb: storage.Create, Data: []byte(`{"kind":"Node","metadata":{"name":"m"}}`)}
	commit(t, s, sealed, node)
	commit(t, s, storage.Op{Key: node.Key, Verb: storage.Delete, Expect: made + 2})

	for _, tc := range []struct {
		sql  string
		want []string
	}{
		{
			`SELECT cluster, "group", resource, kind, namespace, name, labels, revision, object FROM kubernetes_objects ORDER BY revision`,
			[]string{
				`test|coordination.k8s.io|leases|Lease|n|l|{"a":"b"}|2|{"kind":"Lease","metadata":{"name":"l","labels":{"a":"b"},"resourceVersion":"2"}}`,
				`test||secrets|NULL|n|s|NULL|3|NULL`,
			},
		},
		{
			`SELECT cluster, revision, verb, resource, kind, name, object, prev_revision, previous FROM kubernetes_changes WHERE resource = 'nodes' ORDER BY revision`,
			[]string{
				`test|4|create|nodes|Node|m|{"kind":"Node","metadata":{"name":"m","resourceVersion":"4"}}|0|NULL`,
				`test|5|delete|nodes|Node|m|NULL|4|{"kind":"Node","metadata":{"name":"m","resourceVersion":"4"}}`,
			},
		},
		{
			`SELECT count(*) FROM kubernetes_changes WHERE time GLOB '20[0-9][0-9]-[0-9][0-9]-[0-9][0-9]T*Z'`,
			[]string{`4`},
		},
	} {
		if diff := cmp.Diff(tc.want, b.table(t, tc.sql)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.sql, diff)
		}
	}
}

func (b *backend) table(t *testing.T, sql string) []string {
	t.Helper()
	w := <-b.db.writing
	defer func() { b.db.writing <- w }()
	s, err := w.c.Prepare(sql)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	r, err := s.(driver.StmtQueryContext).QueryContext(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	var out []string
	dest := make([]driver.Value, len(r.Columns()))
	for r.Next(dest) == nil {
		row := make([]string, len(dest))
		for i, v := range dest {
			switch v := v.(type) {
			case nil:
				row[i] = "NULL"
			case []byte:
				row[i] = string(v)
			default:
				row[i] = fmt.Sprint(v)
			}
		}
		out = append(out, strings.Join(row, "|"))
	}
	return out
}
