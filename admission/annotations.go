package admission

import (
	"errors"
	"strings"

	upstream "k8s.io/apiserver/pkg/admission"
)

// Policies and webhooks write annotations of their own into the audit record of a request. Upstream bounds those of
// policies only.
const (
	maxAnnotationBytes  = 10 << 10  // of one value, as upstream has it for policies
	maxAnnotationsBytes = 128 << 10 // of all that one plug-in writes about one request
)

var errAnnotations = errors.New("the audit annotations of the request are too large")

// annotated bounds what is annotated by a plug-in.
type annotated struct {
	upstream.Attributes
	left int
}

func newAnnotated(a upstream.Attributes) *annotated {
	return &annotated{a, maxAnnotationsBytes}
}

// AddAnnotation implements upstream.Attributes.
func (a *annotated) AddAnnotation(key, value string) error {
	if len(value) > maxAnnotationBytes {
		value = strings.ToValidUTF8(value[:maxAnnotationBytes], "")
	}
	if a.left -= len(key) + len(value); a.left < 0 {
		return errAnnotations
	}
	return a.Attributes.AddAnnotation(key, value)
}
