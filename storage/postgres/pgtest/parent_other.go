//go:build !linux

package pgtest

import "syscall"

// dieWithParent has no counterpart here: a server may outlive a test binary that was killed.
func dieWithParent(*syscall.SysProcAttr) {}
