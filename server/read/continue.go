package read

import (
	"strings"

	"k8s.io/apimachinery/pkg/api/errors"
	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/rowlock-io/rowlock/storage"
)

// Tokens carry the place to go on from as upstream writes it: the storage key behind the last item shown, relative to the
// root of the list ("name\x00" in a namespace, "namespace/name\x00" across them), and the list's revision, or -1 for "go on
// at whatever is the present".

// The texts of upstream's storage layer, which clients show to people and some match against.
const (
	listExpired          = "The resourceVersion for the provided list is too old."
	continueInconsistent = "The provided continue parameter is too old " +
		"to display a consistent list result. You can start a new list without " +
		"the continue parameter, or use the continue token in this response to " +
		"retrieve the remainder of the results. Continuing with the provided " +
		"token results in an inconsistent list - objects that were created, " +
		"modified, or deleted between the time the first chunk was returned " +
		"and now may show up in the list."
)

// place is a decoded token.
type place struct {
	start string      // as in the token
	after storage.Key // what start lies directly behind
	rev   int64
}

// decodeContinue reads a token for a list of this scope. It is not ok for tokens that no list of this scope hands out:
// what they mean, if anything, is upstream's to say.
func (r *Resource) decodeContinue(token string, s scope) (place, bool) {
	start, rev, err := apistorage.DecodeContinue(token, "/")
	if err != nil {
		return place{}, false
	}
	p := place{start: start[1:], rev: rev}
	last, behind := strings.CutSuffix(p.start, "\x00")
	p.after = r.key(s.namespace, last)
	whole := true
	if r.Namespaced && s.namespace == "" {
		p.after.Namespace, p.after.Name, whole = strings.Cut(last, "/")
		whole = whole && p.after.Namespace != ""
	}
	return p, behind && whole && validName(p.after.Name)
}

// encodeContinue writes the token that goes on behind the last key shown.
func encodeContinue(s scope, last storage.Key, rev storage.Revision) (string, error) {
	start := last.Name
	if s.namespace == "" && last.Namespace != "" {
		start = last.Namespace + "/" + last.Name
	}
	return apistorage.EncodeContinue("/"+start+"\x00", "/", int64(rev))
}

// expired is the answer to a token whose revision is gone: it brings a token for the same place in the present.
func (p place) expired() error {
	err := errors.NewResourceExpired(continueInconsistent)
	if token, encErr := apistorage.EncodeContinue("/"+p.start, "/", -1); encErr == nil {
		err.ErrStatus.ListMeta.Continue = token
	}
	return err
}
