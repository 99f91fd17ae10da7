package rowlock

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// module is the import path of what this test watches over.
const module = "github.com/rowlock-io/rowlock"

// room is a part of the house, and what may be imported there. The longest path that fits a package is its room.
type room struct {
	path  string   // of the packages in it, below the module: the path itself and what lies under it
	rooms []string // it imports, beside its own packages
	std   bool     // beside those, only the standard library
	no    []string // import paths (and what lies under them) that it must not name
}

// kubernetes is what a package that knows keys and bytes only must not see.
var kubernetes = []string{"k8s.io", "sigs.k8s.io"}

var house = []room{
	{path: "cmd", rooms: []string{"server", "schema", "admission", "storage", "agents"}},
	{path: "server", rooms: []string{"schema", "admission", "storage", "informer", "series", "tunnel"}},
	{path: "schema", rooms: []string{"storage"}},
	{path: "admission", rooms: []string{"storage", "series"}},
	{path: "storage", rooms: []string{"migrations"}, no: kubernetes},
	{path: "migrations", std: true},
	{path: "agents", rooms: []string{"informer", "tunnel"}},
	{path: "informer"},
	{path: "series"},
	{path: "tunnel", no: kubernetes},
	{path: "conformance"},
}

// drivers are chosen by URL scheme in cmd; everything else, but for tests and their helpers, sees the contract.
var drivers = []string{"storage/memory", "storage/postgres", "storage/sqlite"}

// helpers are packages for tests; nothing of them may be in the binary.
var helpers = []string{
	"agents/node/fakecri", "agents/node/kubelettest", "schema/internal/upstream", "schema/reference", "server/pki/pkitest", "server/servertest", "storage/memory", "storage/postgres/pgtest",
	"storage/storagetest",
}

func under(path, top string) bool { return path == top || strings.HasPrefix(path, top+"/") }

// judge says what is wrong with one import, or nothing. from is below the module; to is a whole import path.
func judge(from, to string, test bool) string {
	at := slices.IndexFunc(house, func(r room) bool { return under(from, r.path) })
	if at < 0 {
		return "is in no room of the house"
	}
	here := house[at]
	if slices.ContainsFunc(here.no, func(no string) bool { return under(to, no) }) {
		return here.path + " must not know " + to
	}
	own, ours := strings.CutPrefix(to, module+"/")
	switch domain, _, _ := strings.Cut(to, "/"); {
	case to == module:
		return "the top holds no code to import"
	case !ours && !strings.Contains(domain, "."):
		return "" // the standard library
	case from == "storage" && !test:
		return "the contract imports only the standard library"
	case !ours && here.std:
		return here.path + " imports only the standard library"
	case !ours:
		return ""
	case !under(own, here.path) && !slices.ContainsFunc(here.rooms, func(r string) bool { return under(own, r) }):
		return "wrong direction: " + here.path + " must not import " + own
	case test || here.path == "cmd" || !slices.ContainsFunc(drivers, func(d string) bool { return under(own, d) }):
		return ""
	case slices.ContainsFunc(drivers, func(d string) bool { return under(from, d) && under(own, d) }), slices.Contains(helpers, from):
		return ""
	}
	return "drivers are chosen in cmd, not by " + from
}

func TestImportDirection(t *testing.T) {
	t.Parallel()
	var wrong []string
	for _, f := range goFiles(t) {
		if f.dir == "." {
			continue
		}
		for _, to := range f.imports {
			if why := judge(f.dir, to, f.test); why != "" {
				wrong = append(wrong, fmt.Sprintf("%s imports %s: %s", f.path, to, why))
			}
		}
	}
	if len(wrong) > 0 {
		t.Errorf("%d imports against the plan:\n%s", len(wrong), strings.Join(wrong, "\n"))
	}
}

// TestJudge shows that the plan can be broken, and is told apart from what keeps to it.
func TestJudge(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		from, to string
		test     bool
		want     bool // keeps to the plan
	}{
		{from: "cmd/rowlock", to: module + "/server", want: true},
		{from: "cmd/rowlock", to: module + "/storage/sqlite", want: true},
		{from: "cmd/rowlock", to: module + "/conformance/load"},
		{from: "server/read", to: module + "/storage/cache", want: true},
		{from: "server/read", to: module + "/server/seal", want: true},
		{from: "server/read", to: module + "/cmd/rowlock"},
		{from: "server/read", to: module + "/storage/sqlite"},
		{from: "server/read", to: module + "/storage/sqlite", test: true, want: true},
		{from: "server/servertest", to: module + "/storage/memory", want: true},
		{from: "schema/adapter", to: "k8s.io/apiserver/pkg/storage", want: true},
		{from: "schema/adapter", to: module + "/storage", want: true},
		{from: "schema/adapter", to: module + "/server/status"},
		{from: "schema/adapter", to: module + "/server/status", test: true},
		{from: "schema", to: module + "/admission"},
		{from: "admission", to: module + "/schema"},
		{from: "storage", to: "context", want: true},
		{from: "storage", to: "github.com/tidwall/btree"},
		{from: "storage", to: module + "/storage/cache"},
		{from: "storage", to: "github.com/google/go-cmp/cmp", test: true, want: true},
		{from: "storage/cache", to: "github.com/tidwall/btree", want: true},
		{from: "storage/cache", to: "k8s.io/apimachinery/pkg/labels"},
		{from: "storage/cache", to: "sigs.k8s.io/yaml", test: true},
		{from: "storage/cache", to: module + "/schema/object"},
		{from: "storage/cache", to: module + "/storage/postgres"},
		{from: "storage/postgres", to: module + "/storage/sqlite"},
		{from: "storage/postgres", to: module + "/migrations/postgres", want: true},
		{from: "storage/storagetest", to: module + "/storage/memory", want: true},
		{from: "migrations/sqlite", to: "github.com/mattn/go-sqlite3"},
		{from: "agents/node", to: "k8s.io/client-go/kubernetes", want: true},
		{from: "agents/node", to: module + "/storage"},
		{from: "agents/node", to: module + "/server/pki"},
		{from: "agents/node/uplink", to: module + "/tunnel", want: true},
		{from: "server/tunnels", to: module + "/tunnel", want: true},
		{from: "tunnel", to: module + "/server/tunnels"},
		{from: "tunnel", to: "k8s.io/client-go/rest"},
		{from: "conformance/kubectl", to: module + "/conformance/harness", want: true},
		{from: "conformance/kubectl", to: module + "/storage", test: true},
		{from: "util", to: "fmt"},
	} {
		if why := judge(tc.from, tc.to, tc.test); (why == "") != tc.want {
			t.Errorf("judge(%q, %q, test %v) = %q, want it to be right: %v", tc.from, tc.to, tc.test, why, tc.want)
		}
	}
}

// TestBinary follows the imports of the binary through our own packages: helpers of tests must not be in it.
func TestBinary(t *testing.T) {
	t.Parallel()
	imports := map[string][]string{}
	for _, f := range goFiles(t) {
		if !f.test {
			imports[f.dir] = append(imports[f.dir], f.imports...)
		}
	}
	via := map[string]string{"cmd/rowlock": "the binary"}
	for todo := []string{"cmd/rowlock"}; len(todo) > 0; todo = todo[1:] {
		for _, to := range imports[todo[0]] {
			own, ours := strings.CutPrefix(to, module+"/")
			if _, seen := via[own]; ours && !seen {
				via[own] = todo[0]
				todo = append(todo, own)
			}
			if to == "testing" {
				t.Errorf("%s, which is in the binary, imports testing", todo[0])
			}
		}
	}
	for _, helper := range helpers {
		if imports[helper] == nil {
			t.Errorf("%s is not there any more: take it off the list", helper)
		}
		if from, in := via[helper]; in {
			t.Errorf("%s is for tests, but is in the binary through %s", helper, from)
		}
	}
	for _, needed := range []string{"server", "server/read", "schema/adapter", "storage/cache", "storage/postgres", "storage/sqlite"} {
		if _, in := via[needed]; !in {
			t.Errorf("%s is not in the binary; this test does not follow imports", needed)
		}
	}
}

// TestPackageDoc asks every package for a comment that says what it is for.
func TestPackageDoc(t *testing.T) {
	t.Parallel()
	docs := map[string][]string{}
	for _, f := range goFiles(t) {
		if strings.HasSuffix(f.pkg, "_test") {
			continue
		}
		docs[f.dir] = append(docs[f.dir], f.doc)
		if want := "Package " + f.pkg + " "; f.doc != "" && f.pkg != "main" && !strings.HasPrefix(f.doc, want) {
			t.Errorf("%s: the comment of the package must begin with %q", f.path, want)
		}
	}
	for dir, found := range docs {
		slices.Sort(found)
		found = slices.DeleteFunc(found, func(doc string) bool { return doc == "" })
		if len(found) != 1 {
			t.Errorf("%s has %d package comments, want one: %s", dir, len(found), cmp.Diff([]string{""}, found))
		}
	}
}

// maxLines bounds a file; a longer one has a second subject in it.
const maxLines = 600

func TestFileLength(t *testing.T) {
	t.Parallel()
	for path, lines := range sources(t) {
		if lines > maxLines {
			t.Errorf("%s has %d lines, more than %d: look for the second subject", path, lines, maxLines)
		}
	}
}
