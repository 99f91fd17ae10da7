package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rowlock-io/rowlock/storage"
)

// TestOpenTogether lets several processes find an empty database.
func TestOpenTogether(t *testing.T) {
	t.Parallel()
	url := server.Empty(t, "")
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			d, err := Open(t.Context(), Config{URL: url})
			if err != nil {
				t.Error(err)
				return
			}
			_ = d.Close()
		})
	}
	all.Wait()
}

func TestSchemaRefused(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, template, sql, want string }{
		{"newer", server.Database(t), "INSERT INTO schema_version (version, name) VALUES (99, 'x')", "run a newer rowlock"},
		{"another program's", server.Empty(t, ""), "CREATE TABLE objects (id int)", "a database of its own"},
		{"another encoding", server.Empty(t, "TEMPLATE template0 ENCODING 'LATIN1'"), "SELECT 1", "ENCODING 'UTF8'"},
		{"another isolation", server.Database(t), "ALTER ROLE CURRENT_USER IN DATABASE %s SET default_transaction_isolation = 'serializable'", "read committed"},
	} {
		if strings.Contains(tc.sql, "%s") {
			tc.sql = fmt.Sprintf(tc.sql, tc.template[strings.LastIndex(tc.template, "/")+1:strings.Index(tc.template, "?")])
		}
		exec(t, tc.template, tc.sql)
		_, err := Open(t.Context(), Config{URL: tc.template})
		if !errors.Is(err, storage.ErrSchema) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want ErrSchema and %q", tc.name, err, tc.want)
		}
	}
	// A schema that changes under an open handle is noticed, too.
	b := newBackend(t).(*backend)
	s := b.Open(t)
	exec(t, b.url, "INSERT INTO schema_version (version, name) VALUES (99, 'x')")
	if err := s.Ready(t.Context()); !errors.Is(err, storage.ErrSchema) {
		t.Errorf("ready: got %v, want ErrSchema", err)
	}
}

// TestCollation opens a database whose own collation sorts as people do. Ours must not.
func TestCollation(t *testing.T) {
	t.Parallel()
	url := server.Empty(t, "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US' LOCALE 'C.UTF-8'")
	s := newBackendAt(t, url).Open(t)
	want := []string{"-a", "A", "B", "_", "a", "a-b", "a.b", "ab", "b", "z", "ä", "\U0001F600"}
	shuffled := slices.Clone(want)
	slices.Reverse(shuffled)
	for _, name := range shuffled {
		mustCommit(t, s, create(name, "{}"))
	}
	first := mustHead(t, s).Revision
	for _, name := range []string{"A", "a", "ab"} {
		obj, err := s.Get(t.Context(), key(name), 0)
		if err != nil {
			t.Fatal(err)
		}
		mustCommit(t, s, storage.Op{Key: key(name), Verb: storage.Delete, Expect: obj.Revision})
	}
	var got []string
	after := storage.Key{}
	for more := true; more; {
		page, err := s.List(t.Context(), storage.Selector{Resource: "pods"}, storage.ListOptions{Revision: first, After: after, Limit: 5})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page.Objects {
			got = append(got, o.Name)
		}
		more, after = page.More, page.Objects[len(page.Objects)-1].Key
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

func TestViews(t *testing.T) {
	t.Parallel()
	b := newBackend(t).(*backend)
	s := b.Open(t)
	const object = `{"kind":"Deployment","metadata":{"name":"web","labels":{"app":"web"}}}`
	web := storage.Key{Resource: "deployments.apps", Namespace: "default", Name: "web"}
	made := mustCommit(t, s,
		storage.Op{Key: web, Verb: storage.Create, Data: []byte(object)},
		storage.Op{Key: storage.Key{Resource: "secrets", Namespace: "default", Name: "sealed"}, Verb: storage.Create, Data: []byte("{\x00\xff")},
		storage.Op{Key: storage.Key{Resource: "leases", Name: "empty"}, Verb: storage.Create},
	)
	mustCommit(t, s, storage.Op{Key: web, Verb: storage.Update, Expect: made.Head - 2, Data: []byte(strings.Replace(object, `"web"}`, `"new"}`, 1))})

	for query, want := range map[string]string{
		`SELECT concat_ws('|', cluster, "group", resource, kind, namespace, name, labels->>'app', revision, object#>>'{metadata,resourceVersion}')
			FROM kubernetes_objects WHERE resource = 'deployments'`: "test|apps|deployments|Deployment|default|web|new|5|5",
		`SELECT string_agg(concat_ws('|', "group", resource, name, object IS NULL), ' ' ORDER BY name)
			FROM kubernetes_objects WHERE "group" = ''`: "|leases|empty|t |secrets|sealed|t",
		`SELECT string_agg(concat_ws('|', revision, verb, name, object#>>'{metadata,labels,app}', previous#>>'{metadata,resourceVersion}'), ' ' ORDER BY revision)
			FROM kubernetes_changes WHERE cluster = 'test'`: "2|create|web|web 3|create|sealed 4|create|empty 5|update|web|new|2",
	} {
		var got string
		if err := connect(t, b.url).QueryRow(context.WithoutCancel(t.Context()), query).Scan(&got); err != nil {
			t.Errorf("%s: %v", query, err)
		} else if got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", query, got, want)
		}
	}
}
