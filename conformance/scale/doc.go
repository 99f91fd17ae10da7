// Package scale measures a whole cluster at work, API server, controllers and scheduler: Deployments are created, their
// pods scheduled and, by simulated nodes, marked running. `make bench-scale` does it with Rowlock and with etcd,
// kube-apiserver, kube-controller-manager and kube-scheduler, one after the other, and prints a table. Its benchmark is
// no part of the tests.
package scale
