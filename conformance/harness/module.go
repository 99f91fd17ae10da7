package harness

import (
	"encoding/json"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
)

// Module is a program that is built in its own module's directory, with all that its go.mod says: for modules that cannot be
// installed by their name, because they replace others, or because which versions there are cannot be asked.
type Module struct {
	Path, Version string
	Package       string // of the program, from the module's directory: ./cmd/crio
	Name          string // of the binary
	Tags          string
}

// InModule returns the path of a program's binary, which is built, with cgo, unless the cache has it.
func InModule(t testing.TB, m Module) string {
	t.Helper()
	return Cached(t, m.Name, m.Version+"-"+runtime.Version(), func(path string) {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(ModuleSource(t, m.Path, m.Version))); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "go", "build", "-p", "2", "-mod=readonly", "-ldflags", "-s -w", "-tags", m.Tags, "-o", path, m.Package)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=1", "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("run %s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
		}
	})
}

// ModuleSource is the directory of any module at a version, which may not be written to.
func ModuleSource(t testing.TB, path, version string) string {
	t.Helper()
	var got struct{ Dir string }
	out := command(t, t.TempDir(), "go", "mod", "download", "-json", path+"@"+version)
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	return got.Dir
}
