package noderuntime

import (
	"crypto/sha256"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// Versions of what machines run. Each program is built with what its own module requires.
const (
	containerdVersion = "v2.4.2"
	crioVersion       = "v1.34.0"
	runcVersion       = "v1.5.2"
	cniVersion        = "v1.9.1"
)

func containerd(t testing.TB, name string) string {
	t.Helper()
	return harness.Installed(t, harness.Install{Package: "github.com/containerd/containerd/v2/cmd/" + name, Version: containerdVersion, Name: name})
}

// runc can filter system calls if it is built with libseccomp's headers. Without them pods that ask for a filter fail.
func runc(t testing.TB) string {
	t.Helper()
	return harness.Installed(t, harness.Install{
		Package: "github.com/opencontainers/runc", Version: runcVersion, Name: "runc", Cgo: true, Tags: seccompTag(t, "runc"),
	})
}

// seccompTag is what a program is built with to filter system calls.
func seccompTag(t testing.TB, program string) string {
	t.Helper()
	if _, err := os.Stat("/usr/include/seccomp.h"); err == nil {
		return "seccomp"
	}
	t.Logf("%s is built without seccomp: libseccomp's headers are not there (Debian's libseccomp-dev)", program)
	return ""
}

const crioModule = "github.com/cri-o/cri-o"

func crio(t testing.TB) string {
	t.Helper()
	return harness.InModule(t, harness.Module{
		Path: crioModule, Version: crioVersion, Package: "./cmd/crio", Name: "crio",
		Tags: "containers_image_ostree_stub containers_image_openpgp exclude_graphdriver_btrfs btrfs_noversion apparmor selinux " + seccompTag(t, "crio"),
	})
}

// pinns keeps namespaces for CRI-O.
func pinns(t testing.TB) string {
	t.Helper()
	return harness.Cached(t, "pinns", crioVersion+"-"+runtime.GOARCH, func(path string) {
		sources, err := filepath.Glob(filepath.Join(harness.ModuleSource(t, crioModule, crioVersion), "pinns/src/*.c"))
		if err != nil || len(sources) == 0 {
			t.Fatalf("CRI-O's sources have no pinns: %v", err)
		}
		run(t, "gcc", append([]string{"-std=c99", "-Os", "-static", "-o", path}, sources...)...)
	})
}

// conmon keeps containers for CRI-O. It is a C program with libraries of its own.
func conmon(t testing.TB) string {
	t.Helper()
	return fromDebian(t, "bookworm", "conmon", "usr/bin/conmon")
}

// fromDebian is a file of a package of a release of Debian's. What the package depends on has to be there already.
func fromDebian(t testing.TB, release, pkg, file string) string {
	t.Helper()
	return harness.Cached(t, filepath.Base(file), "debian-"+release+"-"+pkg+"-"+runtime.GOARCH, func(path string) {
		a := openArchive(t, release, "deb")
		a.get(t, "download", pkg)
		found, err := filepath.Glob(filepath.Join(a.dir, pkg+"_*.deb"))
		if err != nil || len(found) != 1 {
			t.Fatalf("Debian's package %s is not there: %v, %v", pkg, found, err)
		}
		tree := filepath.Join(a.dir, "tree")
		run(t, "dpkg", "-x", found[0], tree)
		run(t, "cp", filepath.Join(tree, file), path)
	})
}

//go:embed limitedrunc/main.go
var limitedRuncSource []byte

func limitedRunc(t testing.TB) string {
	t.Helper()
	const name = "limitedrunc"
	return harness.Cached(t, name, fmt.Sprintf("%.12x-%s", sha256.Sum256(limitedRuncSource), runtime.Version()), func(path string) {
		source := filepath.Join(t.TempDir(), "main.go")
		if err := os.WriteFile(source, limitedRuncSource, 0o644); err != nil {
			t.Fatal(err)
		}
		run(t, "go", "build", "-ldflags", "-s -w", "-o", path, source)
	})
}

// plugins are the CNI plugins of a machine, by name.
func plugins(t testing.TB) map[string]string {
	t.Helper()
	paths := map[string]string{}
	for name, dir := range map[string]string{"bridge": "main", "loopback": "main", "host-local": "ipam", "portmap": "meta"} {
		paths[name] = harness.Installed(t, harness.Install{
			Package: "github.com/containernetworking/plugins/plugins/" + dir + "/" + name, Version: cniVersion, Name: name,
		})
	}
	return paths
}
