// Package rowlock is the top of the house and holds no product code: its tests watch over the plan that every package
// keeps to (see ARCHITECTURE.md). The binary is cmd/rowlock.
package rowlock
