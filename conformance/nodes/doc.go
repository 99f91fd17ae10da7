// Package nodes judges the node agent of the binary: "rowlock agent" joins machines with a real container runtime to "rowlock up", and
// stock kubectl runs pods on them. ROWLOCK_TEST_RUNTIME says which runtime: containerd, containerd-1.6, or crio. See package noderuntime for what that takes.
package nodes
