// Package bench compares API servers under one load: kube-apiserver on etcd and on kine, and Rowlock, on SQLite and on
// Postgres. `make bench` starts them in turn on the same machine, several times, has the load generator run against each,
// and prints tables of ratios. Its benchmark is no part of the tests; the tests are about its arithmetic.
package bench
