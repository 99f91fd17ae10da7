package noderuntime

import (
	"os"
	"testing"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// Versions of what machines run. Each program is built with what its own module requires.
const (
	containerdVersion = "v2.4.2"
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
	build := harness.Install{Package: "github.com/opencontainers/runc", Version: runcVersion, Name: "runc", Cgo: true}
	if _, err := os.Stat("/usr/include/seccomp.h"); err == nil {
		build.Tags = "seccomp"
	} else {
		t.Log("runc is built without seccomp: libseccomp's headers are not there (Debian's libseccomp-dev)")
	}
	return harness.Installed(t, build)
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
