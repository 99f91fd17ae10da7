package read

import (
	"strings"

	metainternal "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	"k8s.io/apiserver/pkg/endpoints/request"
)

// scope is the part of a resource that a request looks at.
type scope struct {
	namespace string // empty: all, or the resource has none
	name      string // empty: all
}

// scopeOf narrows by the path, then by the field selector, as the generic registry does. It is not ok for a continued list
// that only its field selector confines to a namespace: upstream reads such a token against another root than it was
// written for, and may keep doing so.
func (r *Resource) scopeOf(info *request.RequestInfo, opts *metainternal.ListOptions) (scope, bool) {
	var s scope
	if r.Namespaced {
		s.namespace = info.Namespace
	}
	if opts.FieldSelector == nil {
		return s, true
	}
	if r.Namespaced && s.namespace == "" {
		if ns, ok := opts.FieldSelector.RequiresExactMatch("metadata.namespace"); ok {
			if opts.Continue != "" {
				return s, false
			}
			s.namespace = ns
		}
	}
	if name, ok := opts.FieldSelector.RequiresExactMatch("metadata.name"); ok && opts.Continue == "" &&
		validName(name) && (!r.Namespaced || s.namespace != "") {
		s.name = name
	}
	return s, true
}

// validName tells whether a name can be the last part of a storage key.
func validName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/%")
}
