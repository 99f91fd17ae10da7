package noderuntime

import (
	"os"
	"os/exec"
	"testing"
)

// programs are what a machine is made with, and the Debian packages that they are in.
var programs = map[string]string{
	"ip": "iproute2", "nsenter": "util-linux", "unshare": "util-linux", "mount": "mount", "nft": "nftables", "gcc": "gcc",
}

// Require ends the test unless machines can be made here. ROWLOCK_TEST_NODES=require makes that a failure; else it is a skip.
func Require(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "machines for node agents can only be made by root")
	}
	for name, pkg := range programs {
		if _, err := exec.LookPath(name); err != nil {
			missing(t, "machines for node agents need %s, of Debian's package %s", name, pkg)
		}
	}
}

func missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("ROWLOCK_TEST_NODES") == "require" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}
