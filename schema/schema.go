// Package schema says which Kubernetes this is. Its subpackages know what is served (catalogue), how bytes become
// objects and back (object, adapter), who owns which field (fieldmanager) and how it is described (openapi).
package schema

// The release whose types, defaults, validation and defaults of features are served. It goes with the versions of the
// k8s.io modules in go.mod.
const (
	Version = "v1.36.3"
	Major   = 1
	Minor   = 36
)
