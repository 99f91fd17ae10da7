// Package nodes judges the node agent of the binary: "rowlock agent" joins machines with a real containerd to "rowlock up", and stock
// kubectl runs pods on them. See package noderuntime for what that takes.
package nodes
