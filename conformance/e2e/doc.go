// Package e2e runs Kubernetes' own end-to-end tests against the binary. They are built from upstream's modules, as they
// are, at the version that go.mod names.
//
// passed.txt beside this module's packages lists the tests that pass, on SQLite and on Postgres, with simulated nodes; those in
// passed-no-nodes.txt without any, those in passed-long-jobs.txt with simulated nodes on which pods of Jobs run for a while, and those in
// passed-containers.txt on machines that run containers (see package noderuntime). It may only grow: a test of it that fails is an error, and
// so is a line that was taken away. The controllers and the scheduler are those inside the server. not-passed.txt says why others do not pass.
//
// "go test ./e2e" without further flags checks the lists and what surrounds a run. A run is asked for by TestRun's flags:
//
//	-sample N     N of the tests that pass, drawn with -seed (0: a new seed, which is printed)
//	-passed       all of them
//	-names FILE   the tests whose full names are the lines of a file
//	-focus RE     the tests whose full names match
//	-skip RE      leaves out the tests whose full names match
//	-group NAME   the cluster of -names and -focus, or the only one of -passed: nodes, no-nodes, long-jobs, containers
//	-procs N      processes that run tests; those marked [Serial] run alone, after the others
//	-again=false  do not run tests that failed once more
//	-update       write what passed on all targets, and is on no list, into the lists
//	-out DIR      keep logs and reports there
//
// Many of upstream's tests wait for something within seconds, and on a machine of two cores one of them fails now and then.
// So a few that failed are run again, alone: one that passes then counts as passed, and is named at the end of the output
// together with those that failed twice.
//
// The environment chooses the databases (see package harness).
package e2e
