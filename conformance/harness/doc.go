// Package harness starts what the conformance tests judge, and judges nothing itself: the rowlock binary on SQLite or on
// Postgres, or a real kube-apiserver with etcd, which shows that a test asks for no more than Kubernetes gives.
//
// A Server is started as a plain process on a free port of 127.0.0.1, can be stopped, killed and started again on the
// same data, and is known to tests by its kubeconfig alone. The environment chooses:
//
//	ROWLOCK_TEST_TARGET  what to run against, separated by commas: sqlite, postgres, kube-apiserver.
//	                     The default is "sqlite,postgres"
//	ROWLOCK_BINARY       the binary to judge; without it, "make build" at the top of the repository makes bin/rowlock
//	CI                   when true, a test that lacks something (Postgres, say) fails; elsewhere it is skipped
//
// Binaries that take long to build are kept in the user's cache directory, by version.
package harness
