package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/kubernetes/pkg/controller/util/consistency"
)

func TestRoutineErrorsAreDebug(t *testing.T) {
	pods := schema.GroupResource{Resource: "pods"}
	conflict := apierrors.NewConflict(pods, "a", errors.New(genericregistry.OptimisticLockErrorMsg))
	forbidden := admission.NewForbidden(
		admission.NewAttributesRecord(nil, nil, schema.GroupVersionKind{}, "a", "b", pods.WithVersion("v1"), "", admission.Create, nil, false, nil),
		errors.New("unable to create new content in namespace a because it is being terminated"))
	for _, tt := range []struct {
		name    string
		err     any
		routine bool
	}{
		{"conflict", conflict, true},
		{"conflict in an error's text", fmt.Errorf("sync %q failed with %v", "a/b", conflict), true}, //nolint:errorlint // as upstream does
		{"conflict of UIDs", apierrors.NewConflict(pods, "a", errors.New("Precondition failed: UID in precondition: 1, UID in object meta: 2")), false},
		{"own writes not seen", &consistency.ConsistencyError{ReadRV: "1", WroteRV: "2", GroupResource: pods}, true},
		{"namespace on its way out", forbidden, true},
		{"metrics of an earlier life", prometheus.AlreadyRegisteredError{}, true},
		{"forbidden", apierrors.NewForbidden(pods, "a", errors.New("no")), false},
		{"down", apierrors.NewServiceUnavailable("down"), false},
		{"none", "text, because it is being terminated", false},
		{"nil", nil, false},
	} {
		for level, shown := range map[slog.Level]bool{slog.LevelInfo: !tt.routine, slog.LevelDebug: true} {
			var out bytes.Buffer
			log := slog.New(calm{slog.NewTextHandler(&out, &slog.HandlerOptions{Level: level})})
			log.With("a", 1).Error("Unhandled Error", "err", tt.err)
			if (out.Len() > 0) != shown {
				t.Errorf("%s at %v: %q", tt.name, level, out.String())
			}
			if want := map[bool]string{true: "level=DEBUG", false: "level=ERROR"}[tt.routine]; shown && !strings.Contains(out.String(), want) {
				t.Errorf("%s at %v: %q, want %s", tt.name, level, out.String(), want)
			}
		}
	}
}
