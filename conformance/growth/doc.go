// Package growth measures what a server costs by how many objects it holds: memory, lists, the start of watches, writes,
// a restart, compaction, and the database. `make bench-growth` does it for one size after the other and prints a table.
// Its benchmark is no part of the tests.
package growth
