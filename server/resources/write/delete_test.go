package write

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	auditapi "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/handlers"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/utils/ptr"
)

// deleter notes what it is asked for, and answers what it is told to.
type deleter struct {
	result func() (runtime.Object, error)
	gone   bool
	asked  []string
}

func (d *deleter) note(ctx context.Context, what string, validate rest.ValidateObjectFunc, options *metav1.DeleteOptions) error {
	ns, _ := request.NamespaceFrom(ctx)
	shown, err := json.Marshal(options)
	if err != nil {
		return err
	}
	d.asked = append(d.asked, fmt.Sprintf("%s in %q with %s", what, ns, shown))
	return validate(ctx, &core.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "stored"}, Data: map[string]string{"a": "b"}})
}

func (d *deleter) Delete(ctx context.Context, name string, validate rest.ValidateObjectFunc, options *metav1.DeleteOptions) (runtime.Object, bool, error) {
	if err := d.note(ctx, "delete "+name, validate, options); err != nil {
		return nil, false, err
	}
	obj, err := d.result()
	return obj, d.gone, err
}

func (d *deleter) DeleteCollection(ctx context.Context, validate rest.ValidateObjectFunc, options *metav1.DeleteOptions, list *internalversion.ListOptions) (runtime.Object, error) {
	shown := *list
	timeout, events := fmt.Sprint(ptr.Deref(list.TimeoutSeconds, -1)), fmt.Sprint(ptr.Deref(list.SendInitialEvents, false))
	shown.TimeoutSeconds, shown.SendInitialEvents = nil, nil
	if err := d.note(ctx, fmt.Sprintf("delete all of %+v, %s, %s", shown, timeout, events), validate, options); err != nil {
		return nil, err
	}
	return d.result()
}

// judge is admission that notes what it sees.
type judge struct {
	refuse string // the step in which it refuses
	look   bool   // at the object
	seen   []string
}

func (j *judge) Handles(op admission.Operation) bool { return op == admission.Delete }

func (j *judge) step(step string, a admission.Attributes) error {
	seen := fmt.Sprintf("%s %s %s/%s %s %s %q %v dry run %v by %s, new %v", step, a.GetKind(), a.GetNamespace(), a.GetName(), a.GetResource(),
		a.GetOperation(), a.GetSubresource(), a.GetOperationOptions(), a.IsDryRun(), a.GetUserInfo().GetName(), a.GetObject())
	if j.look {
		old := a.GetOldObject().(*core.ConfigMap)
		seen += fmt.Sprintf(", old %s %v", old.Name, old.Data)
		old.Data["a"] = step // it has one of its own, which the next step sees
	}
	for _, key := range []string{"judge.example/" + step, "judge.example/twice", "nothing"} {
		seen += fmt.Sprintf(", %v", a.AddAnnotation(key, step))
	}
	seen += fmt.Sprintf(", %v", a.AddAnnotationWithLevel("judge.example/secret", "x", auditapi.LevelRequestResponse))
	j.seen = append(j.seen, seen)
	if j.refuse == step {
		return admission.NewForbidden(a, errors.New("not today"))
	}
	return nil
}

func (j *judge) Admit(_ context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	return j.step("admit", a)
}

func (j *judge) Validate(_ context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	return j.step("validate", a)
}

// TestDeletesEqualUpstream sends the same deletions to our handlers and upstream's.
func TestDeletesEqualUpstream(t *testing.T) {
	t.Parallel()
	kind := schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}
	results := map[string]func() (runtime.Object, error){
		"nothing": func() (runtime.Object, error) { return nil, nil },
		"object": func() (runtime.Object, error) {
			return &core.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "one"}}, nil
		},
		"status": func() (runtime.Object, error) { return &metav1.Status{Status: metav1.StatusSuccess}, nil },
		"failure": func() (runtime.Object, error) {
			return &metav1.Status{Status: metav1.StatusFailure, Message: "no", Code: 409}, nil
		},
		"error": func() (runtime.Object, error) { return nil, errors.New("broken") },
		"list":  func() (runtime.Object, error) { return &core.ConfigMapList{}, nil },
	}
	bodies := []string{
		"", `{}`, `{"kind":"DeleteOptions","apiVersion":"v1"}`, `{"kind":"DeleteOptions","apiVersion":"meta.k8s.io/v1","propagationPolicy":"Foreground"}`,
		`{"gracePeriodSeconds":3,"preconditions":{"uid":"u","resourceVersion":"7"}}`, `{"orphanDependents":false}`,
		`{"orphanDependents":true,"propagationPolicy":"Orphan"}`, `{"propagationPolicy":"Sideways"}`, `{"dryRun":["All"]}`, `{"dryRun":["Some"]}`,
		`{"kind":"ConfigMap","apiVersion":"v1"}`, `{"kind":"DeleteOptions","apiVersion":"apps/v1"}`, `{"unknown":1}`, `{"gracePeriodSeconds":"x"}`, `{`,
		`{"ignoreStoreReadErrorWithClusterBreakingPotential":true}`, "kind: DeleteOptions\napiVersion: v1\n", strings.Repeat(" ", 2<<10),
	}
	queries := []string{
		"", "?gracePeriodSeconds=5", "?propagationPolicy=Orphan&dryRun=All", "?dryRun=no", "?gracePeriodSeconds=x", "?orphanDependents=false", "?pretty=1",
		"?labelSelector=a%3Db&limit=3", "?labelSelector=%21%21", "?fieldSelector=metadata.name%3Dx", "?fieldSelector=spec.x%3D1", "?limit=x",
		"?resourceVersionMatch=Exact", "?sendInitialEvents=true", "?resourceVersion=5&resourceVersionMatch=Exact", "?ignoreStoreReadErrorWithClusterBreakingPotential=true",
	}
	accepts := []string{
		"", "application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "text/html",
		"application/json;as=Table;v=v1;g=meta.k8s.io",
	}
	one := func(result, body, query, accept, contentType string, collection, gone bool, j judge) {
		t.Helper()
		var answers [2][]string
		for i := range answers {
			p := newPlayer(t, kind, 1)
			p.scope.MaxRequestBodyBytes = 1 << 10
			d, seen := &deleter{result: results[result], gone: gone}, j
			handler := handlers.DeleteResource(d, true, p.scope, &seen)
			if collection {
				handler = handlers.DeleteCollection(d, true, p.scope, &seen)
			}
			if i == 1 {
				ours := New(Config{Scope: p.scope, Fields: p.scope.FieldManager, Admission: admission.WithAudit(&seen)})
				if whole := handler; collection {
					handler = ours.DeleteCollection(d, whole)
				} else {
					handler = ours.Delete(d, whole)
				}
			}
			info := &request.RequestInfo{IsResourceRequest: true, Namespace: "space", Name: "one", Verb: "delete", APIVersion: "v1", Resource: "things"}
			path := "/things/one"
			if collection {
				info.Name, info.Verb, path = "", "deletecollection", "/things"
			}
			req := httptest.NewRequest(http.MethodDelete, path+query, strings.NewReader(body))
			req.Header.Set("Accept", accept)
			req.Header.Set("Content-Type", contentType)
			ctx := request.WithUser(request.WithRequestInfo(audit.WithAuditContext(req.Context()), info), &user.DefaultInfo{Name: "alice"})
			ac := audit.AuditContextFrom(ctx)
			if err := ac.Init(audit.RequestAuditConfig{Level: auditapi.LevelRequest}, nil); err != nil {
				t.Fatal(err)
			}
			w := httptest.NewRecorder()
			handler(w, req.WithContext(ctx))
			answers[i] = append([]string{fmt.Sprint(w.Code, w.Header(), ac.GetEventAnnotations()), w.Body.String()}, append(d.asked, seen.seen...)...)
		}
		if diff := cmp.Diff(answers[0], answers[1]); diff != "" {
			t.Errorf("%s, %q, %q, accept %q, collection %v (-theirs +ours):\n%s", result, body, query, accept, collection, diff)
		}
	}
	for _, collection := range []bool{false, true} {
		for result := range results {
			for _, accept := range accepts {
				one(result, "", "", accept, "application/json", collection, true, judge{})
			}
			one(result, `{"orphanDependents":false}`, "", "", "application/json", collection, false, judge{})
		}
		for _, body := range bodies {
			for _, contentType := range []string{"application/json", "", "application/yaml", "image/png"} {
				one("status", body, "", "", contentType, collection, true, judge{})
			}
			one("status", body, "?gracePeriodSeconds=9", "", "application/json", collection, false, judge{look: true})
		}
		for _, query := range queries {
			one("nothing", "", query, "", "", collection, true, judge{})
		}
		for _, step := range []string{"admit", "validate", ""} {
			one("object", "", "", "", "", collection, true, judge{refuse: step, look: true})
			one("object", "", "", "", "", collection, true, judge{refuse: step})
		}
	}
}
