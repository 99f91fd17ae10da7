//go:build suite

package e2e

// The suite that is built. No build has the tag: the import is for go.mod, which "go mod tidy" keeps with every tag set.
import _ "k8s.io/kubernetes/test/e2e"
