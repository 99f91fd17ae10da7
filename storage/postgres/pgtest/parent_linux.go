package pgtest

import "syscall"

// dieWithParent stops the server when the test binary is killed before it could.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGQUIT }
