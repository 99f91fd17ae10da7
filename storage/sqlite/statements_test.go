package sqlite

import (
	"context"
	"database/sql/driver"
	"reflect"
	"strings"
	"testing"
)

// each calls fn with every statement, on a migrated database.
func each(t *testing.T, fn func(w *conn, st *statement)) {
	t.Helper()
	b := open(t, Config{})
	w := <-b.db.writing
	defer func() { b.db.writing <- w }()
	v := reflect.ValueOf(b.db.st).Elem()
	for i := range v.NumField() {
		fn(w, v.Field(i).Interface().(*statement))
	}
}

func TestStatementsPrepare(t *testing.T) {
	t.Parallel()
	each(t, func(w *conn, st *statement) {
		if _, err := w.prepare(st); err != nil {
			t.Error(err)
		}
	})
}

func TestLoadStatements(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"missing": strings.Replace(queries, "-- name: GetObject", "-- name: GetNothing", 1),
		"unused":  queries + "\n-- name: Extra\nSELECT 1\n",
		"twice":   queries + "\n-- name: Begin\nBEGIN\n",
		"empty":   strings.Replace(queries, "-- name: Rollback\nROLLBACK", "-- name: Rollback\n", 1),
	} {
		if _, _, err := loadStatements(text); err == nil {
			t.Errorf("%s: loaded", name)
		}
	}
}

// TestPlans fails when a statement that runs often, or over much, does not use the index made for it.
func TestPlans(t *testing.T) {
	t.Parallel()
	const key = "INDEX objects_key (cluster=? AND resource=? AND namespace=? AND name=?)"
	want := map[string]string{
		"FindObject":       key,
		"GetObject":        key,
		"UpdateObject":     key,
		"DeleteObject":     key,
		"InsertChangeOver": key,
		"ListAll":          "INDEX objects_key (cluster=? AND (resource,namespace,name)>(?,?,?))",
		"ListResource":     "INDEX objects_key (cluster=? AND resource=? AND (namespace,name)>(?,?))",
		"ListNamespace":    "INDEX objects_key (cluster=? AND resource=? AND namespace=? AND name>?)",
		"ChangedSince":     "COVERING INDEX changes_revision (cluster=? AND revision>?)",
		"Before":           "INDEX changes_revision (cluster=? AND revision=?)",
		"ListChanges":      "INDEX changes_revision (cluster=? AND revision>?)",
		"ChangeFrom":       "INDEX changes_revision (cluster=? AND revision>?)",
		"HasChanges":       "COVERING INDEX changes_revision (cluster=? AND revision<?)",
		"DropChanges":      "COVERING INDEX changes_revision (cluster=? AND revision<?)",
		"Position":         "INTEGER PRIMARY KEY (rowid=?)",
		"Advance":          "INTEGER PRIMARY KEY (rowid=?)",
		"FindCluster":      "INDEX sqlite_autoindex_clusters_1 (name=?)",
	}
	mayUseTempTree := map[string]bool{"ChangedSince": true} // its groups are few next to what it reads
	each(t, func(w *conn, st *statement) {
		part, ok := want[st.name]
		if !ok {
			return
		}
		delete(want, st.name)
		plan := explainPlan(t, w, st)
		if !strings.Contains(plan, part) {
			t.Errorf("%s: want %q in the plan:\n%s", st.name, part, plan)
		}
		if strings.Contains(plan, "SCAN objects") || strings.Contains(plan, "SCAN changes") ||
			(strings.Contains(plan, "TEMP B-TREE") && !mayUseTempTree[st.name]) {
			t.Errorf("%s: reads or sorts too much:\n%s", st.name, plan)
		}
	})
	for name := range want {
		t.Errorf("there is no statement %q", name)
	}
}

func explainPlan(t *testing.T, w *conn, st *statement) string {
	t.Helper()
	s, err := w.c.Prepare("EXPLAIN QUERY PLAN " + st.sql)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	r, err := s.(driver.StmtQueryContext).QueryContext(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	var plan strings.Builder
	dest := make([]driver.Value, 4)
	for r.Next(dest) == nil {
		plan.WriteString("  " + text(dest[3]) + "\n")
	}
	return plan.String()
}
