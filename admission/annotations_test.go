package admission

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	upstream "k8s.io/apiserver/pkg/admission"
)

type notes struct {
	upstream.Attributes
	said map[string]string
}

func (n *notes) AddAnnotation(key, value string) error {
	n.said[key] = value
	return nil
}

func TestAuditAnnotationsHaveABound(t *testing.T) {
	t.Parallel()
	n := &notes{said: map[string]string{}}
	a := newAnnotated(n)
	for key, value := range map[string]string{
		"short": "value", "long": strings.Repeat("x", maxAnnotationBytes+1), "split": strings.Repeat("x", maxAnnotationBytes-1) + "é",
	} {
		if err := a.AddAnnotation(key, value); err != nil {
			t.Error(err)
		}
	}
	want := map[string]string{"short": "value", "long": strings.Repeat("x", maxAnnotationBytes), "split": strings.Repeat("x", maxAnnotationBytes-1)}
	if diff := cmp.Diff(want, n.said); diff != "" {
		t.Error(diff)
	}
	var err error
	for i := range 100 {
		err = a.AddAnnotation(fmt.Sprint(i), strings.Repeat("x", maxAnnotationBytes))
	}
	if !errors.Is(err, errAnnotations) || len(n.said) > 20 {
		t.Errorf("took %d annotations: %v", len(n.said), err)
	}
}
