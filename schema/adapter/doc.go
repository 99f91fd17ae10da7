// Package adapter puts upstream's storage.Interface in front of one cluster's cache and committer, so that upstream's
// registries run on it unchanged.
//
// What the verbs, resource versions, continue tokens, bookmarks and initial events mean is upstream's: its own suites
// (k8s.io/apiserver/pkg/storage/testing) run against this package. Reads come from the cache; one that must be current
// asks the database for its head first, together with everybody else who asks at that moment. Writes are conditional on
// the revision they were made from, begin with what the cache holds, and are repeated when that was old.
package adapter
