package server_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rowlock-io/rowlock/schema/reference"
	"github.com/rowlock-io/rowlock/server/servertest"
)

// get asks the shared server as an administrator and expects 200.
func get(t *testing.T, path, accept string) string {
	t.Helper()
	resp := wire.Send(t, shared.URL, servertest.Request{
		Method: http.MethodGet, Path: path, Header: http.Header{"Accept": {accept}}, Token: servertest.AdminToken,
	})
	if resp.Status != http.StatusOK {
		t.Fatalf("GET %s (Accept: %s): %d %s", path, accept, resp.Status, resp.Body)
	}
	return resp.Body
}

func TestDiscovery(t *testing.T) {
	t.Parallel()
	reference.CheckDiscovery(t, func(path, accept string) []byte { return []byte(get(t, path, accept)) })
}

func TestOpenAPIV2(t *testing.T) {
	t.Parallel()
	diff, err := reference.DiffOpenAPIV2([]byte(get(t, "/openapi/v2", "application/json")))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range diff {
		t.Error(d)
	}
}

func TestOpenAPIV3(t *testing.T) {
	t.Parallel()
	var index struct {
		Paths map[string]struct{ ServerRelativeURL string }
	}
	if err := json.Unmarshal([]byte(get(t, "/openapi/v3", "application/json")), &index); err != nil {
		t.Fatal(err)
	}
	if len(index.Paths) == 0 {
		t.Fatal("the index is empty")
	}
	for name, entry := range index.Paths {
		diff, err := reference.DiffOpenAPIV3(name, []byte(get(t, entry.ServerRelativeURL, "application/json")))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, d := range diff {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// TestVersion compares /version with kube-apiserver's, apart from what tells one build from another.
func TestVersion(t *testing.T) {
	t.Parallel()
	recorded, err := os.ReadFile("testdata/version.json")
	if err != nil {
		t.Fatal(err)
	}
	var want, have map[string]string
	if err := json.Unmarshal(recorded, &want); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(get(t, "/version", "application/json")), &have); err != nil {
		t.Fatal(err)
	}
	for _, m := range []map[string]string{want, have} {
		for _, key := range []string{"buildDate", "gitCommit", "goVersion", "platform"} {
			if _, ok := m[key]; !ok {
				t.Errorf("no %s", key)
			}
			delete(m, key)
		}
	}
	if d := cmp.Diff(want, have); d != "" {
		t.Error(d)
	}
}

// TestTableColumns asks for the table of every resource, as kubectl get does.
func TestTableColumns(t *testing.T) {
	t.Parallel()
	f, err := os.Open("testdata/table-columns.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want, path := map[string][]string{}, ""
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if column, ok := strings.CutPrefix(lines.Text(), "\t"); ok {
			want[path] = append(want[path], column)
		} else {
			path = lines.Text()
		}
	}
	if err := lines.Err(); err != nil || len(want) == 0 {
		t.Fatalf("%d resources, %v", len(want), err)
	}
	for path, columns := range want {
		var table metav1.Table
		body := get(t, path, "application/json;as=Table;v=v1;g=meta.k8s.io")
		if err := json.Unmarshal([]byte(body), &table); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		var have []string
		for _, c := range table.ColumnDefinitions {
			have = append(have, strings.Join([]string{c.Name, c.Type, c.Format, strconv.Itoa(int(c.Priority))}, "\t"))
		}
		if !slices.Equal(columns, have) {
			t.Errorf("%s: %s", path, cmp.Diff(columns, have))
		}
	}
}
