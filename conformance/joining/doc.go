// Package joining judges whether stock kubelets join the cluster of the binary with its tokens, and are nodes of it as others are.
package joining
