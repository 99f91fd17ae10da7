// Package cost measures what a node costs: the agent of the binary beside upstream's kubelet, one after the other on the same machine,
// each with a containerd of its own that is the same program.
package cost
