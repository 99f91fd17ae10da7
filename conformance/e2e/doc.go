// Package e2e runs Kubernetes' own end-to-end tests against the binary. They are built from upstream's modules, as they
// are, at the version that go.mod names.
//
// The file passed.txt beside this module's packages lists the tests that pass, on SQLite and on Postgres. It may only
// grow: a test of the list that fails is an error, and so is a line that was taken away.
//
// "go test ./e2e" without further flags checks the list and what surrounds a run. A run is asked for by TestRun's flags:
//
//	-sample N     N tests of passed.txt, drawn with -seed (0: a new seed, which is printed)
//	-passed       all of passed.txt
//	-names FILE   the tests whose full names are the lines of a file
//	-focus RE     the tests whose full names match
//	-procs N      processes that run tests; those marked [Serial] run alone, after the others
//	-scheduler    start the stock kube-scheduler too
//	-update       write what passed on all targets into passed.txt
//	-out DIR      keep logs and reports there
//
// The environment chooses the databases (see package harness). The stock kube-controller-manager runs beside the
// server. There is no node: what needs a pod to run cannot pass.
package e2e
