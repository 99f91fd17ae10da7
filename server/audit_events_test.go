package server_test

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/rowlock-io/rowlock/server/servertest"
)

// auditLevels are namespaces, recorded at a level each.
var auditLevels = []string{"metadata", "request", "whole", "lean"}

const auditLevelsPolicy = `
omitStages: [RequestReceived]
rules:
- {level: Metadata, namespaces: [metadata-bytes, metadata-decoded]}
- {level: Request, namespaces: [request-bytes, request-decoded]}
- {level: RequestResponse, namespaces: [whole-bytes, whole-decoded]}
- {level: RequestResponse, namespaces: [lean-bytes, lean-decoded], omitManagedFields: true}
`

// auditStep is a request of a client, and which objects its event has at level RequestResponse.
type auditStep struct {
	method, path, media, body string
	accept                    string // "": of the whole object
	request, response         bool
}

const (
	acceptTable       = ";as=Table;v=v1;g=meta.k8s.io"
	acceptPart        = ";as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
	mergePatch        = "application/merge-patch+json"
	applyPatch        = "application/apply-patch+yaml"
	plainJSON         = "application/json"
	podOfAudit        = `{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i"}]}}`
	auditedDeployment = `{"metadata":{"name":"d"},"spec":{"replicas":1,"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}`
	scaleOfAudit      = `{"kind":"Scale","apiVersion":"autoscaling/v1","metadata":{"name":"d"},"spec":{"replicas":2}}`
)

// auditSteps come in order: each builds on what the ones before have made.
var auditSteps = []auditStep{
	{"POST", "/api/v1/NS/configmaps", plainJSON, `{"metadata":{"name":"a"},"data":{"k":"v"}}`, "", true, true},
	{"POST", "/api/v1/NS/configmaps?dryRun=All", plainJSON, `{"metadata":{"generateName":"b"}}`, acceptPart, true, true},
	{"POST", "/api/v1/NS/configmaps", plainJSON, `{"metadata":{"name":"a"}}`, "", true, true},
	{"POST", "/api/v1/NS/configmaps", plainJSON, `{"metadata":{"name":"A"}}`, "", true, true},
	{"POST", "/api/v1/NS/configmaps", plainJSON, `{"metadata":`, "", false, true},
	{"POST", "/api/v1/NS/configmaps", "text/plain", `{"metadata":{"name":"c"}}`, "", false, true},
	{"GET", "/api/v1/NS/configmaps/a", "", "", "", false, true},
	{"GET", "/api/v1/NS/configmaps/a?resourceVersion=0", "", "", "", false, true},
	{"GET", "/api/v1/NS/configmaps/none", "", "", "", false, true},
	{"GET", "/api/v1/NS/configmaps/a?resourceVersion=x", "", "", "", false, true},
	{"GET", "/api/v1/NS/configmaps", "", "", "", false, true},
	{"GET", "/api/v1/NS/configmaps", "", "", acceptTable, false, true},
	{"GET", "/api/v1/NS/configmaps/a", "", "", acceptTable, false, true},
	{"GET", "/api/v1/NS/configmaps?limit=1&fieldSelector=metadata.name%3Da", "", "", "", false, true},
	{"GET", "/api/v1/NS/configmaps?labelSelector=!!", "", "", "", false, true},
	{"GET", "/api/v1/NS/configmaps?watch=true&timeoutSeconds=1&fieldSelector=metadata.name%3Da", "", "", "", false, false},
	{"PUT", "/api/v1/NS/configmaps/a", plainJSON, `{"metadata":{"name":"a"},"data":{"k":"w"}}`, "", true, true},
	{"PUT", "/api/v1/NS/configmaps/a", plainJSON, `{"metadata":{"name":"a","resourceVersion":"1"},"data":{"k":"x"}}`, "", true, true},
	{"PUT", "/api/v1/NS/configmaps/a", plainJSON, `{"metadata":{"name":"b"}}`, "", true, true},
	{"PATCH", "/api/v1/NS/configmaps/a", mergePatch, `{"data":{"l":"m"}}`, "", true, true},
	{"PATCH", "/api/v1/NS/configmaps/a", jsonPatch, `[{"op":"remove","path":"/data/l"}]`, "", true, true},
	{"PATCH", "/api/v1/NS/configmaps/a", jsonPatch, `[{"op":"remove","path":"/data/none"}]`, "", true, true},
	{"PATCH", "/api/v1/NS/configmaps/applied?fieldManager=t", applyPatch, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"applied"}}`, "", true, true},
	{"PATCH", "/api/v1/NS/configmaps/applied", applyPatch, `{"apiVersion":"v1","kind":"ConfigMap"}`, "", false, true},
	{"DELETE", "/api/v1/NS/configmaps/a?dryRun=All", "", "", "", false, true},
	{"DELETE", "/api/v1/NS/configmaps/a", plainJSON, `{"kind":"DeleteOptions","apiVersion":"v1","propagationPolicy":"Background"}`, "", true, true},
	{"DELETE", "/api/v1/NS/configmaps/a", "", "", "", false, true},
	{"DELETE", "/api/v1/NS/configmaps", plainJSON, `{"kind":"DeleteOptions","apiVersion":"v1"}`, "", true, true},
	{"POST", "/api/v1/NS/serviceaccounts", plainJSON, `{"metadata":{"name":"default"}}`, "", true, true},
	{"POST", "/api/v1/NS/pods", plainJSON, podOfAudit, "", true, true},
	{"GET", "/api/v1/NS/pods", "", "", acceptTable, false, true},
	{"GET", "/api/v1/NS/pods/p/status", "", "", "", false, true},
	{"PATCH", "/api/v1/NS/pods/p/status", mergePatch, `{"status":{"message":"m"}}`, "", true, true},
	{"PUT", "/api/v1/NS/pods/p", plainJSON, podOfAudit, "", true, true},
	{"POST", "/api/v1/NS/pods/p/binding", plainJSON, `{"target":{"kind":"Node","name":"n"}}`, "", true, true},
	{"POST", "/api/v1/NS/pods/p/eviction", plainJSON, `{"kind":"Eviction","apiVersion":"policy/v1","metadata":{"name":"p"}}`, "", true, true},
	{"GET", "/api/v1/NS/pods/p/log", "", "", "", false, true},
	{"POST", "/api/v1/NS/serviceaccounts/default/token", plainJSON, `{"spec":{"expirationSeconds":3600}}`, "", true, true},
	{"POST", "/apis/apps/v1/NS/deployments", plainJSON, auditedDeployment, "", true, true},
	{"GET", "/apis/apps/v1/NS/deployments/d/scale", "", "", "", false, true},
	{"PUT", "/apis/apps/v1/NS/deployments/d/scale", plainJSON, scaleOfAudit, "", true, true},
	{"PATCH", "/apis/apps/v1/NS/deployments/d/scale", mergePatch, `{"spec":{"replicas":3}}`, "", true, true},
	{"DELETE", "/apis/apps/v1/NS/deployments/d/scale", "", "", "", false, true},
	{"POST", "/apis/autoscaling/v1/NS/horizontalpodautoscalers", plainJSON, `{"metadata":{"name":"h"},"spec":{"maxReplicas":2,"scaleTargetRef":{"kind":"Deployment","name":"d"}}}`, "", true, true},
	{"POST", "/apis/authorization.k8s.io/v1/NS/localsubjectaccessreviews", plainJSON, `{"metadata":{"namespace":"NAME"},"spec":{"user":"u","resourceAttributes":{"namespace":"NAME","verb":"get","resource":"pods"}}}`, "", true, true},
	{"GET", "/api/v1/NS/nothings", "", "", "", false, true},
}

// TestAuditEvents runs the same requests twice: once so that they are answered from bytes where that can be, once so that
// upstream's handlers answer all of them. What is recorded must not tell the difference.
func TestAuditEvents(t *testing.T) {
	t.Parallel()
	r := newRecording(t, auditLevelsPolicy, nil, servertest.Config{})
	for _, level := range auditLevels {
		for _, way := range []string{"bytes", "decoded"} {
			wire.Send(t, r.URL, servertest.Request{
				Method: "POST", Path: "/api/v1/namespaces", Token: servertest.AdminToken, Body: `{"metadata":{"name":"` + level + "-" + way + `"}}`,
				Header: http.Header{"Content-Type": {plainJSON}},
			})
		}
	}
	for _, level := range auditLevels {
		t.Run(level, func(t *testing.T) {
			t.Parallel()
			for _, step := range auditSteps {
				bytes, one := r.step(t, step, level+"-bytes", "application/json")
				decoded, two := r.step(t, step, level+"-decoded", "application/yaml")
				what := step.method + " " + step.path
				if bytes.Status != decoded.Status {
					t.Fatalf("%s: %d %s, decoded %d %s", what, bytes.Status, bytes.Body, decoded.Status, decoded.Body)
				}
				if diff := cmp.Diff(comparable(t, two, level+"-decoded"), comparable(t, one, level+"-bytes")); diff != "" {
					t.Errorf("%s: events (-decoded +bytes)\n%s", what, diff)
				}
				want := 1
				if strings.Contains(step.path, "watch=true") || strings.HasSuffix(step.path, "/log") {
					want = 2
				}
				if len(one) != want {
					t.Fatalf("%s: %d events, want %d", what, len(one), want)
				}
				step.judge(t, level, one[want-1], bytes)
			}
		})
	}
}

// judge holds an event to what the levels promise.
func (s auditStep) judge(t *testing.T, level string, e auditv1.Event, answer *servertest.Response) {
	t.Helper()
	what := s.method + " " + s.path
	wantRequest := s.request && level != "metadata"
	wantResponse := s.response && (level == "whole" || level == "lean")
	if got := e.RequestObject != nil; got != wantRequest {
		t.Errorf("%s: there is a request object: %v, want %v", what, got, wantRequest)
	}
	if got := e.ResponseObject != nil; got != wantResponse {
		t.Errorf("%s: there is a response object: %v, want %v", what, got, wantResponse)
	}
	if e.ResponseStatus == nil || int(e.ResponseStatus.Code) != answer.Status {
		t.Errorf("%s: status %v, want %d", what, e.ResponseStatus, answer.Status)
	}
	if e.ObjectRef == nil || e.ObjectRef.Namespace != level+"-bytes" || e.ObjectRef.Resource == "" || e.User.Username != "admin" {
		t.Errorf("%s: %+v by %s", what, e.ObjectRef, e.User.Username)
	}
	if e.Annotations["authorization.k8s.io/decision"] != "allow" {
		t.Errorf("%s: annotations %v", what, e.Annotations)
	}
	if wantResponse {
		lean := !strings.Contains(string(e.ResponseObject.Raw), `"managedFields"`)
		if whole := strings.Contains(answer.Body, `"managedFields"`); whole && lean != (level == "lean") {
			t.Errorf("%s: managed fields are omitted: %v", what, lean)
		}
	}
}

// step sends a request in a namespace and returns its events.
func (r *recording) step(t *testing.T, s auditStep, namespace, accept string) (*servertest.Response, []auditv1.Event) {
	t.Helper()
	path := strings.Replace(s.path, "NS", "namespaces/"+namespace, 1)
	header := http.Header{"Accept": {accept + s.accept}}
	if strings.Contains(path, "watch=true") && accept == "application/yaml" {
		header.Set("Accept", "application/json"+acceptPart) // YAML is not for streams
	}
	if s.media != "" {
		header.Set("Content-Type", s.media)
	}
	resp := wire.Send(t, r.URL, servertest.Request{
		Method: s.method, Path: path, Body: strings.ReplaceAll(s.body, "NAME", namespace), Token: servertest.AdminToken, Header: header,
	})
	return resp, r.of(t, resp.Header.Get("Audit-Id"))
}

// unlike are parts of events that two requests do not share.
var unlike = []struct{ from, to string }{
	{`"(uid|auditID)":"[^"]*"`, `"$1":"?"`},
	{`"resourceVersion":"[0-9]+"`, `"resourceVersion":"?"`},
	{`"(creationTimestamp|time|stageTimestamp|requestReceivedTimestamp|expirationTimestamp|deletionTimestamp|lastTransitionTime)":"[^"]*"`, `"$1":"?"`},
	{`JTI=[-0-9a-f]*`, `JTI=?`},
	{`"token":"[^"]*"`, `"token":"?"`},
	{`"name":"b[a-z0-9]{5}"`, `"name":"b?????"`},
	{`kube-api-access-[a-z0-9]{5}`, `kube-api-access-?????`},
	{`"\d+m?s"`, `"?s"`},                           // ages in tables
	{`(previously negative\))(\\.|[^"\\])*`, `$1`}, // what differs between pods: lines are matched by luck of the names
}

var unlikely = func() []*regexp.Regexp {
	var all []*regexp.Regexp
	for _, u := range unlike {
		all = append(all, regexp.MustCompile(u.from))
	}
	return all
}()

// comparable is the text of events without what two requests do not share.
func comparable(t *testing.T, events []auditv1.Event, namespace string) string {
	t.Helper()
	text, err := json.MarshalIndent(events, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	var compact strings.Builder
	for line := range strings.Lines(string(text)) {
		line = strings.Replace(strings.ReplaceAll(line, namespace, "NAME"), `": `, `":`, 1)
		for i, re := range unlikely {
			line = re.ReplaceAllString(line, unlike[i].to)
		}
		compact.WriteString(line)
	}
	return compact.String()
}
