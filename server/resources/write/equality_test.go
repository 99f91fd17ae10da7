package write

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"
	auditapi "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/handlers"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/warning"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"sigs.k8s.io/yaml"
)

const writeCases = 40 // of each kind

// TestWritesEqualUpstream sends creates, updates, JSON patches and applied configurations, good and bad, to our handlers and
// to upstream's. What is compared: the answer, the warnings, the audit event, and what admission was shown.
func TestWritesEqualUpstream(t *testing.T) {
	t.Parallel()
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	for i, kind := range kinds[:9] {
		t.Run(kind.Kind, func(t *testing.T) {
			t.Parallel()
			p := newPlayer(t, kind, seed+int64(i))
			p.scope.Authorizer = authorizer.AuthorizerFunc(func(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
				if a.GetUser().GetName() == "limited" {
					return authorizer.DecisionDeny, "no", nil
				}
				return authorizer.DecisionAllow, "", nil
			})
			codes := map[int]int{}
			for range writeCases {
				codes[p.write()]++
			}
			if codes[http.StatusOK]+codes[http.StatusCreated] < writeCases/30 || len(codes) < 3 {
				t.Errorf("codes %v: the test shows little", codes)
			}
		})
	}
}

// written is what a request led to.
type written struct {
	Answer   answer
	Warnings []string
	Audit    string
	Admitted []string
}

// request is a random one.
type randomRequest struct{ method, query, media, accept, agent, body, user string }

func pick[T any](p *player, of ...T) T { return of[p.rng.Intn(len(of))] }

func (p *player) write() int {
	p.t.Helper()
	r := randomRequest{
		query: pick(p, "", "", "", "?fieldValidation=Strict", "?fieldValidation=Ignore", "?fieldManager=me", "?dryRun=All&fieldManager=me", "?dryRun=Some", "?fieldValidation=x",
			"?fieldManager=me&force=true", "?fieldManager=me&force=0&pretty=true", "?fieldManager=me&fieldValidation=Strict", "?pretty=1"),
		accept: pick(p, "", "*/*", "application/json", "application/json, */*", "application/yaml", "application/vnd.kubernetes.protobuf", "text/html, */*;q=0.1"),
		agent:  pick(p, "test/1.0", "", "curl/8", "a\x01b\xffc", strings.Repeat("long", 60)),
		user:   pick(p, "someone", "someone", "limited"),
	}
	stored := p.object()
	doc := p.document(p.object())
	p.store.obj, p.store.err = stored, nil
	switch p.rng.Intn(12) {
	case 0:
		p.store.obj = p.store.New() // nothing is stored
	case 1:
		p.store.err = pick(p, error(apierrors.NewConflict(p.scope.Resource.GroupResource(), "one", errors.New("changed"))), errors.New("broken"))
	}
	p.deform(doc)
	body, err := json.Marshal(doc)
	if err != nil {
		p.t.Fatal(err)
	}
	r.body = p.damage(string(body))
	switch r.method = pick(p, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodPatch); {
	case r.method != http.MethodPatch:
		r.media = pick(p, "application/json", "application/json", "application/json; charset=utf-8", "", "application/yaml", "text/plain", "application/vnd.kubernetes.protobuf")
	case p.rng.Intn(2) == 0:
		r.media = "application/json-patch+json"
		r.body = pick(p, `[{"op":"add","path":"/metadata/labels","value":{"a":"b"}}]`, `[{"op":"replace","path":"/metadata/name","value":"two"}]`,
			`[{"op":"test","path":"/metadata/name","value":"x"}]`, `[{"op":"remove","path":"/spec"}]`, `[{"op":"add","path":"/nothing","value":1,"value":2}]`,
			`[{"op":"copy","from":"/metadata","path":"/metadata/x"}]`, `{}`, `[`, `[{"op":"move"}]`, `[{"op":"add","path":"/metadata/labels","value":7}]`, `[{"op":"add","path":"/metadata/labels","value":{"c":"d"},"more":1}]`)
	default:
		r.media = "application/apply-patch+yaml"
		r.body = pick(p, r.body, r.body, "kind: "+p.kind.Kind+"\napiVersion: "+p.kind.GroupVersion().String()+"\nmetadata:\n  name: one\n  labels: {a: b, a: c}\n",
			fmt.Sprintf(`{"kind":%q,"apiVersion":%q,"metadata":{"name":"one","labels":{"x":"y"}}}`, p.kind.Kind, p.kind.GroupVersion()), "a: [")
	}
	var theirs http.HandlerFunc
	seen := &recorded{}
	admit := admission.WithAudit(seen)
	ours := New(Config{Scope: p.scope, Fields: p.scope.FieldManager, Admission: admit, Scheme: legacyscheme.Scheme})
	var mine http.HandlerFunc
	switch r.method {
	case http.MethodPost:
		mine, theirs = ours.Create(p.store, p.unexpected), handlers.CreateResource(p.store, p.scope, seen)
	case http.MethodPut:
		mine, theirs = ours.Update(p.store, p.unexpected), handlers.UpdateResource(p.store, p.scope, seen)
	default:
		mine, theirs = ours.Patch(p.store, p.unexpected), handlers.PatchResource(p.store, p.scope, seen, PatchTypes)
	}
	got := p.sendWrite(mine, r, seen)
	want := p.sendWrite(theirs, r, seen)
	if diff := cmp.Diff(want, got); diff != "" {
		p.t.Fatalf("%+.2000v (-theirs +ours):\n%s", r, diff)
	}
	return got.Answer.Code
}

// document is an object as a client sends it.
func (p *player) document(obj runtime.Object) map[string]any {
	p.t.Helper()
	data, err := runtime.Encode(legacyscheme.Codecs.LegacyCodec(p.kind.GroupVersion()), obj)
	if err != nil {
		p.t.Fatal(err)
	}
	doc := map[string]any{}
	if err := json.Unmarshal(data, &doc); err != nil {
		p.t.Fatal(err)
	}
	if p.rng.Intn(3) > 0 {
		delete(doc["metadata"].(map[string]any), "managedFields")
	}
	return doc
}

// deform changes what a client sends in ways that handlers look at.
func (p *player) deform(doc map[string]any) {
	metadata := doc["metadata"].(map[string]any)
	switch p.rng.Intn(16) {
	case 0:
		metadata["name"] = "two"
	case 1:
		metadata["namespace"] = "elsewhere"
	case 2:
		delete(metadata, "name")
		metadata["generateName"] = "some-"
	case 3:
		doc["apiVersion"] = "other/v7"
	case 4:
		doc["kind"] = "Other"
	case 5:
		doc["nothing"] = "known"
	case 6:
		owner := map[string]any{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "1"}
		metadata["ownerReferences"] = []any{owner, owner}
	case 7:
		delete(doc, "kind")
		delete(doc, "apiVersion")
	case 8:
		metadata["labels"] = 7
	case 9:
		metadata["uid"] = "other"
	case 10:
		delete(metadata, "namespace")
	}
}

// damage makes a text that may be no JSON.
func (p *player) damage(text string) string {
	switch p.rng.Intn(14) {
	case 0:
		return ""
	case 1:
		return text[:len(text)/2]
	case 2:
		return strings.Replace(text, `"metadata":{`, `"metadata":{"name":"one","name":"one",`, 1)
	case 3:
		return text + strings.Repeat(" ", 1<<20)
	case 4:
		return "not JSON: ["
	}
	return text
}

func (p *player) sendWrite(handler http.HandlerFunc, r randomRequest, seen *recorded) written {
	p.t.Helper()
	seen.shown = nil
	p.store.obj = p.store.obj.DeepCopyObject()
	path := "/things/one"
	info := &request.RequestInfo{
		IsResourceRequest: true, Namespace: "space", Name: "one", APIGroup: p.kind.Group, APIVersion: p.kind.Version, Resource: "things",
	}
	if r.method == http.MethodPost {
		path, info.Name = "/things", ""
	}
	req := httptest.NewRequest(r.method, path+r.query, bytes.NewReader([]byte(r.body)))
	for name, value := range map[string]string{"Content-Type": r.media, "Accept": r.accept, "User-Agent": r.agent} {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	said := &warnings{}
	log := &events{}
	ctx := audit.WithAuditContext(warning.WithWarningRecorder(req.Context(), said))
	if err := audit.AuditContextFrom(ctx).Init(audit.RequestAuditConfig{Level: auditapi.LevelRequestResponse}, log); err != nil {
		p.t.Fatal(err)
	}
	ctx = request.WithUser(request.WithRequestInfo(ctx, info), &user.DefaultInfo{Name: r.user})
	w := httptest.NewRecorder()
	handler(w, req.WithContext(ctx))
	audit.AuditContextFrom(ctx).ProcessEventStage(ctx, auditapi.StageResponseComplete)
	return written{
		Answer: answer{Code: w.Code, Body: p.shown(w), Type: w.Header().Values("Content-Type")}, Warnings: *said,
		Audit: log.text, Admitted: seen.shown,
	}
}

// shown is an answer as JSON without times.
func (p *player) shown(w *httptest.ResponseRecorder) string {
	p.t.Helper()
	data := w.Body.Bytes()
	switch w.Header().Get("Content-Type") {
	case "application/yaml":
		asJSON, err := yaml.YAMLToJSON(data)
		if err != nil {
			p.t.Fatal(err)
		}
		data = asJSON
	case "application/vnd.kubernetes.protobuf":
		obj, _, err := legacyscheme.Codecs.UniversalDeserializer().Decode(data, nil, nil)
		if err != nil {
			p.t.Fatal(err)
		}
		asJSON, err := json.Marshal(obj)
		if err != nil {
			p.t.Fatal(err)
		}
		data = asJSON
	}
	return moment.ReplaceAllString(timeless(data), "")
}

// moment is a time of managed fields, in JSON within something else.
var moment = regexp.MustCompile(`"time":"[^"]*",?`)

// warnings are what a client is warned of.
type warnings []string

// AddWarning implements warning.Recorder.
func (w *warnings) AddWarning(_, text string) { *w = append(*w, text) }

// events keeps the last event of the audit log.
type events struct{ text string }

// ProcessEvents implements audit.Sink.
func (e *events) ProcessEvents(all ...*auditapi.Event) bool {
	for _, event := range all {
		var request, response string
		if event.RequestObject != nil {
			request = moment.ReplaceAllString(timeless(event.RequestObject.Raw), "")
		}
		if event.ResponseObject != nil {
			response = moment.ReplaceAllString(timeless(event.ResponseObject.Raw), "")
		}
		e.text = fmt.Sprintf("%s\n%s\n%v\n%v", request, response, event.ResponseStatus, event.Annotations)
	}
	return true
}

// recorded is admission that notes what it is shown and refuses some of it.
type recorded struct{ shown []string }

// Handles implements admission.Interface.
func (r *recorded) Handles(admission.Operation) bool { return true }

// Admit implements admission.MutationInterface.
func (r *recorded) Admit(_ context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	r.note("admit", a)
	if accessor, err := meta.Accessor(a.GetObject()); err == nil && accessor.GetUID() == "other" {
		return apierrors.NewForbidden(a.GetResource().GroupResource(), a.GetName(), errors.New("not this one"))
	}
	return a.AddAnnotation("admitted.example.com/by", "test")
}

// Validate implements admission.ValidationInterface.
func (r *recorded) Validate(_ context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	r.note("validate", a)
	return nil
}

func (r *recorded) note(step string, a admission.Attributes) {
	text := func(obj runtime.Object) string {
		data, _ := json.Marshal(obj)
		return moment.ReplaceAllString(timeless(data), "")
	}
	r.shown = append(r.shown, fmt.Sprintf("%s %s %s/%s %s %s %q %v %s\n%s\n%s\n%s", step, a.GetOperation(), a.GetNamespace(), a.GetName(), a.GetKind(),
		a.GetResource(), a.GetSubresource(), a.IsDryRun(), a.GetUserInfo().GetName(), text(a.GetOperationOptions()), text(a.GetObject()), text(a.GetOldObject())))
}

var (
	_ rest.Creater = (*store)(nil)
	_ rest.Patcher = (*store)(nil)
)

// Create implements rest.Creater.
func (s *store) Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc, options *metav1.CreateOptions) (runtime.Object, error) {
	if s.err != nil {
		return nil, s.err
	}
	if slices.Contains(options.DryRun, "All") {
		return &metav1.Status{Status: metav1.StatusFailure, Message: "not dry", Code: http.StatusTeapot}, nil
	}
	return obj, validate(ctx, obj)
}
