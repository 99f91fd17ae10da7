package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// Missing ends a test that cannot run for want of something: with a failure in CI, where nothing may be wanting, and
// with a skip elsewhere.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if ci := os.Getenv("CI"); ci != "" && ci != "false" && ci != "0" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// Rowlock returns the path of the binary to judge.
func Rowlock(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("ROWLOCK_BINARY"); path != "" {
		path, err := filepath.Abs(path)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	top := filepath.Dir(moduleDir(t))
	exclusively(t, "rowlock", func(string) {
		command(t, top, "make", "build")
	})
	return filepath.Join(top, "bin", "rowlock")
}

// Kubectl returns the path of the stock kubectl, of the version that go.mod names.
func Kubectl(t testing.TB) string {
	return tool(t, "k8s.io/kubernetes/cmd/kubectl", "kubectl")
}

// Ginkgo returns the path of the command that runs suites in several processes.
func Ginkgo(t testing.TB) string {
	return tool(t, "github.com/onsi/ginkgo/v2/ginkgo", "ginkgo")
}

// Suite returns the path of Kubernetes' end-to-end tests, of the version that go.mod names. To build it takes minutes.
func Suite(t testing.TB) string {
	return built(t, "k8s.io/kubernetes/test/e2e", "e2e.test", "test", "-c")
}

// tool builds a main package that go.mod lists as a tool and returns the path of the binary, called name.
func tool(t testing.TB, pkg, name string) string {
	t.Helper()
	return built(t, pkg, name, "build")
}

// built returns the path of the binary that the go command makes of a package with verb, unless the cache has it.
func built(t testing.TB, pkg, name string, verb ...string) string {
	t.Helper()
	return build{module: moduleDir(t), pkg: pkg, name: name}.path(t, verb...)
}

// build is what a binary is made of.
type build struct {
	module, pkg, name string // a directory, a package that the module there requires, and how the binary is called
	linker            string // further flags of the linker
	kind              string // tells binaries apart that differ by these
}

// path returns where the binary is, which the go command makes with verb unless the cache has it.
func (b build) path(t testing.TB, verb ...string) string {
	t.Helper()
	version := command(t, b.module, "go", "list", "-f", "{{.Module.Version}}", b.pkg)
	return Cached(t, b.name, version+"-"+runtime.Version()+b.kind, func(path string) {
		command(t, b.module, "go", append(verb, "-p", "2", "-o", path, "-ldflags", versionFlags(version)+b.linker, b.pkg)...)
	})
}

// versionFlags are the linker flags that make a Kubernetes binary know its version, as upstream's release build does.
func versionFlags(version string) string {
	parts := strings.Split(strings.TrimPrefix(version, "v"), ".")
	flags := new(strings.Builder)
	flags.WriteString("-s -w ") // links faster, and stack traces need neither
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		fmt.Fprintf(flags, "-X %[1]s.gitVersion=%[2]s -X %[1]s.gitMajor=%[3]s -X %[1]s.gitMinor=%[4]s ",
			pkg, version, parts[0], parts[1])
	}
	return flags.String()
}

// exclusively runs f with the cache directory while no other test process runs it for the same name.
func exclusively(t testing.TB, name string, f func(cache string)) {
	t.Helper()
	user, err := os.UserCacheDir()
	if err != nil {
		t.Fatalf("find the cache directory: %v", err)
	}
	cache := filepath.Join(user, "rowlock-conformance")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	lock, err := os.Create(filepath.Join(cache, name+".lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close() // which lets go of the lock
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatalf("lock %s: %v", lock.Name(), err)
	}
	f(cache)
}

func moduleDir(t testing.TB) string {
	t.Helper()
	return filepath.Dir(command(t, "", "go", "env", "GOMOD"))
}

// command runs a program to its end and returns what it printed, without the space around it.
func command(t testing.TB, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("run %s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, stderr.String())
	}
	return strings.TrimSpace(string(out))
}
