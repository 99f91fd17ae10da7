// Package outside judges servers by what acts on them from outside: the stock kube-controller-manager and kube-scheduler, and
// the binary's subcommands in their place, with the files that "rowlock identity export" writes.
package outside
