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
	start string // relative key, inclusive
	rev   int64
}

func decodeContinue(token string) (place, error) {
	start, rev, err := apistorage.DecodeContinue(token, "/")
	if err != nil {
		return place{}, errors.NewBadRequest("invalid continue token: " + err.Error())
	}
	return place{start: start[1:], rev: rev}, nil
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

// after turns the place into the key behind which a scan starts, and the key that is to be shown first if it exists, for
// tokens that start at a key instead of behind one.
func (p place) after(r *Resource, s scope) (after storage.Key, at *storage.Key) {
	start, behind := strings.CutSuffix(p.start, "\x00")
	key := r.key(s.namespace, start)
	if r.Namespaced && s.namespace == "" {
		var found bool
		key.Namespace, key.Name, found = strings.Cut(start, "/")
		if !found {
			// No name at all: the start of a namespace, or behind "ns\x00", which sorts before the next namespace too.
			return key, nil
		}
	}
	if behind {
		return key, nil
	}
	return key, &key
}
