// Package restful is the judgement of a request's method, Content-Type and Accept headers that kube-apiserver makes before
// a handler sees the request. Clients and monitors meet its codes and words, so they are the same here: media types are
// compared as strings, and only */* is a wildcard.
package restful

import (
	"net/http"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Route says what a handler takes and gives.
type Route struct {
	Methods  []string // nil: the caller has checked
	Consumes []string // nil: anything
	Produces []string // nil: anything
}

// Check returns the error, an APIStatus, with which a request is refused: 405, 415 or 406; nil when it is not.
func (r Route) Check(req *http.Request) error {
	if r.Methods != nil && !slices.Contains(r.Methods, req.Method) {
		return Error(http.StatusMethodNotAllowed, "")
	}
	if r.Consumes != nil && !consumes(r.Consumes, req) {
		return Error(http.StatusUnsupportedMediaType, "415: Unsupported Media Type")
	}
	accept := req.Header.Get("Accept")
	if r.Produces != nil && accept != "" && !matches(r.Produces, accept, true) {
		return Error(http.StatusNotAcceptable, "406: Not Acceptable\n\nAvailable representations: "+strings.Join(r.Produces, ", "))
	}
	return nil
}

// Error is the answer of the router itself: it knows of no object.
func Error(code int, message string) error {
	return apierrors.NewGenericServerResponse(code, "", schema.GroupResource{}, "", message, 0, false)
}

func consumes(types []string, req *http.Request) bool {
	sent := req.Header.Get("Content-Type")
	if sent == "" {
		switch req.Method {
		case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodDelete, http.MethodTrace:
			return true // nothing is sent
		}
		sent = "application/octet-stream"
	}
	return matches(types, sent, false)
}

// matches tells whether one of the types of a header is in a list. A request may ask for anything, but cannot send it.
func matches(types []string, header string, wildcard bool) bool {
	for one := range strings.SplitSeq(header, ",") {
		one, _, _ = strings.Cut(one, ";")
		one = strings.TrimSpace(one)
		if wildcard && one == "*/*" || slices.Contains(types, one) {
			return true
		}
	}
	return false
}
