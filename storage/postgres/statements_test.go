package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rowlock-io/rowlock/storage"
)

func TestLoadStatementsRefuses(t *testing.T) {
	t.Parallel()
	for want, text := range map[string]string{
		"is missing":  strings.Replace(queries, "-- name: Floor\n", "", 1),
		"is not used": queries + "\n-- name: Extra\nSELECT 1\n",
		"twice":       queries + "\n-- name: Floor\nSELECT 1\n",
	} {
		if _, err := loadStatements(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
}

func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func mustLoad(t testing.TB) *statements {
	t.Helper()
	sql, err := loadStatements(queries)
	if err != nil {
		t.Fatal(err)
	}
	return sql
}

func TestStatementsPrepare(t *testing.T) {
	t.Parallel()
	conn := connect(t, server.Database(t))
	all := reflect.ValueOf(mustLoad(t)).Elem()
	for i := range all.NumField() {
		name := all.Type().Field(i).Name
		if _, err := conn.Prepare(t.Context(), name, all.Field(i).String()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPlans fails when a hot statement does not use the index that it should, with a plan for any arguments, as
// a server that runs for long has.
func TestPlans(t *testing.T) {
	t.Parallel()
	b := newBackend(t).(*backend)
	s := b.Open(t).(*Store)
	for i := range 3 {
		var ops []storage.Op
		for j := range 1000 {
			ops = append(ops, create(fmt.Sprintf("pod-%d-%d", i, j), `{"kind":"Pod"}`))
		}
		mustCommit(t, s, ops...)
		exec(t, b.url, "SELECT rowlock_roll('0 s', 1)")
	}
	exec(t, b.url, "ANALYZE")
	exec(t, b.url, "INSERT INTO clusters (name, instance) SELECT 'c' || n, '' FROM generate_series(1, 5000) n")
	exec(t, b.url, "ANALYZE clusters")

	sql := mustLoad(t)
	for _, tc := range []struct {
		name, sql, args string
		want            []string
	}{
		{"Head", sql.Head, "1", []string{"Index Scan clusters_pkey"}},
		{"Get", sql.Get, "1, 'pods', 'default', 'pod-1-1'", []string{"Index Scan clusters_pkey", "Index Scan objects_pkey"}},
		{"List", sql.List, "1, 'pods', 'default', 'pod-1-1', 'pods', 'default', 'default', '', 10", []string{"Index Scan clusters_pkey", "Index Scan objects_pkey"}},
		{"Changes", sql.Changes, "1, 2990, 100, 3, 1000000", []string{"Index Scan clusters_pkey", "Index Scan changes_3_pkey", "Index Scan changes_4_pkey"}},
		{"Poll", sql.Poll, "'{1}', '{1}', 3600, 1000000", []string{"Function Scan", "Index Scan clusters_pkey"}},
	} {
		got := plan(t, b.url, tc.sql, tc.args)
		for _, want := range tc.want {
			if !strings.Contains(got, want+"\n") {
				t.Errorf("%s: no %q in\n%s", tc.name, want, got)
			}
		}
		for _, table := range []string{"clusters", "objects", "changes"} {
			if strings.Contains(got, "Seq Scan "+table) {
				t.Errorf("%s scans %s:\n%s", tc.name, table, got)
			}
		}
		if tc.name == "Changes" && strings.Contains(got, "changes_1") {
			t.Errorf("%s looks into a segment that the reader is past:\n%s", tc.name, got)
		}
		if strings.Contains(got, "Sort") {
			t.Errorf("%s sorts:\n%s", tc.name, got)
		}
	}
}

// plan returns the executed generic plan, a line for each scan.
func plan(t testing.TB, url, sql, args string) string {
	t.Helper()
	conn := connect(t, url)
	for _, set := range []string{"SET plan_cache_mode = force_generic_plan", "PREPARE it AS " + sql} {
		if _, err := conn.Exec(t.Context(), set, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatal(err)
		}
	}
	var text []byte
	explain := "EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE it (" + args + ")"
	if err := conn.QueryRow(t.Context(), explain, pgx.QueryExecModeSimpleProtocol).Scan(&text); err != nil {
		t.Fatal(err)
	}
	var plans []struct{ Plan node }
	if err := json.Unmarshal(text, &plans); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	plans[0].Plan.write(&b)
	return b.String()
}

type node struct {
	Type     string `json:"Node Type"`
	Index    string `json:"Index Name"`
	Relation string `json:"Relation Name"`
	Function string `json:"Function Name"`
	Plans    []node
}

func (n node) write(b *strings.Builder) {
	name := n.Index + n.Function
	if name == "" {
		name = n.Relation
	}
	b.WriteString(strings.TrimSpace(n.Type+" "+name) + "\n")
	for _, p := range n.Plans {
		p.write(b)
	}
}
