// Package replicas measures one to many servers on one Postgres: how much they write together, and how long after a write on
// one of them watchers of the others see it. Its benchmark, `make bench-replicas`, is no part of the tests. While it runs it
// proves that every watcher saw every change, once and in order.
package replicas
