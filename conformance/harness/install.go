package harness

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// Install says how a program of a module that is not among this one's requirements is built.
type Install struct {
	Package, Version string
	Name             string // of the binary, the last part of the package's path
	Tags             string
	Cgo              bool
}

// Installed returns the path of a program's binary, which the go command builds unless the cache has it.
func Installed(t testing.TB, i Install) string {
	t.Helper()
	key := i.Version + "-" + runtime.Version()
	if i.Tags != "" {
		key += "-" + i.Tags
	}
	var path string
	exclusively(t, i.Name, func(cache string) {
		dir := filepath.Join(cache, key)
		path = filepath.Join(dir, i.Name)
		if _, err := os.Stat(path); err == nil {
			return
		}
		fresh := dir + ".new-" + i.Name // a build that is interrupted must not look like a binary
		cgo := "CGO_ENABLED=0"
		if i.Cgo {
			cgo = "CGO_ENABLED=1"
		}
		cmd := exec.CommandContext(t.Context(), "go", "install", "-p", "2", "-ldflags", "-s -w", "-tags", i.Tags, i.Package+"@"+i.Version)
		cmd.Env = append(os.Environ(), "GOBIN="+fresh, cgo)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("run %s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(fresh, i.Name), path); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(fresh); err != nil {
			t.Fatal(err)
		}
	})
	return path
}

// Cached returns the path of a file that is made unless the cache has it: make writes it to where it is told. The key is
// everything that the content depends on.
func Cached(t testing.TB, name, key string, make func(path string)) string {
	t.Helper()
	var path string
	exclusively(t, name, func(cache string) {
		dir := filepath.Join(cache, key)
		path = filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		make(path + ".new")
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	})
	return path
}

// Static returns the path of the binary of a package that go.mod's requirements hold, with the C library linked into it, so that it runs
// where there is none. Without cgo most of Kubernetes would be compiled once more for it.
func Static(t testing.TB, pkg, name string) string {
	t.Helper()
	return build{module: moduleDir(t), pkg: pkg, name: name, kind: "-linked", linker: "-linkmode=external -extldflags=-static"}.path(t, "build")
}

// Copied returns the path of a program's static binary that is built in a copy of its module, as Installed cannot where the module has
// replacements, or where something in it is to be another way: edit, if there is one, changes the copy.
func Copied(t testing.TB, i Install, edit func(dir string)) string {
	t.Helper()
	return Cached(t, i.Name, i.Version+"-"+runtime.Version()+"-static", func(path string) {
		dir := t.TempDir()
		var module struct{ Dir string }
		if err := json.Unmarshal([]byte(command(t, dir, "go", "mod", "download", "-json", i.Package+"@"+i.Version)), &module); err != nil {
			t.Fatal(err)
		}
		copied := filepath.Join(dir, "copy")
		command(t, dir, "cp", "-r", "--no-preserve=mode", module.Dir, copied)
		if edit != nil {
			edit(copied)
		}
		command(t, copied, "env", "CGO_ENABLED=0", "go", "build", "-mod=mod", "-p", "2", "-ldflags", "-s -w", "-o", path, ".")
	})
}

// KubernetesSource is the directory of Kubernetes' module.
func KubernetesSource(t testing.TB) string {
	t.Helper()
	return command(t, moduleDir(t), "go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes")
}
