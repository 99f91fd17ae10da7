package rowlock

import (
	"bytes"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// goFile is what the tests ask of one file.
type goFile struct {
	path, dir string // below the top, with slashes
	pkg, doc  string
	imports   []string
	test      bool
}

// skipped are directories that hold nothing of ours to judge.
var skipped = map[string]bool{".git": true, "bin": true, "testdata": true}

// walk calls f with every file below the top, except in skipped directories. Files are read rather than listed by the go
// command, so that go test sees what a cached result depends on.
func walk(t testing.TB, f func(path string)) {
	t.Helper()
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && skipped[d.Name()]:
			return filepath.SkipDir
		case !d.IsDir():
			f(filepath.ToSlash(p))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// goFiles parses the packages and imports of all Go files, those of nested modules included.
func goFiles(t testing.TB) []goFile {
	t.Helper()
	var files []goFile
	set := token.NewFileSet()
	walk(t, func(p string) {
		if !strings.HasSuffix(p, ".go") {
			return
		}
		parsed, err := parser.ParseFile(set, p, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		f := goFile{
			path: p, dir: path.Dir(p), pkg: parsed.Name.Name, doc: parsed.Doc.Text(), test: strings.HasSuffix(p, "_test.go"),
		}
		for _, spec := range parsed.Imports {
			to, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatalf("%s: %v", p, err)
			}
			f.imports = append(f.imports, to)
		}
		files = append(files, f)
	})
	if len(files) == 0 {
		t.Fatal("found no Go files")
	}
	return files
}

// sources counts the lines of every file of Go or SQL.
func sources(t testing.TB) map[string]int {
	t.Helper()
	lines := map[string]int{}
	walk(t, func(p string) {
		if ext := path.Ext(p); ext != ".go" && ext != ".sql" {
			return
		}
		text, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		lines[p] = bytes.Count(text, []byte("\n"))
	})
	return lines
}
