package server_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/rowlock-io/rowlock/server/servertest"
)

// only is the one event of a request.
func (r *recording) only(t *testing.T, resp *servertest.Response) auditv1.Event {
	t.Helper()
	events := r.of(t, resp.Header.Get("Audit-Id"))
	if len(events) != 1 {
		t.Fatalf("%d events of a request that was answered with %d %s", len(events), resp.Status, resp.Body)
	}
	return events[0]
}

// Who acts for somebody else is recorded beside whom they act for, also where the answer comes from bytes, and an attempt
// that was refused names nobody but who tried.
func TestAuditOfImpersonation(t *testing.T) {
	t.Parallel()
	r := newRecording(t, "omitStages: [RequestReceived]\nrules: [{level: Metadata}]", nil, servertest.Config{})
	admin := authenticationv1.UserInfo{Username: "admin", UID: "admin", Groups: []string{"system:masters", "system:authenticated"}}
	alice := authenticationv1.UserInfo{Username: "alice", UID: "alice", Groups: []string{"devs", "system:authenticated"}}
	bob := &authenticationv1.UserInfo{
		Username: "bob", UID: "7", Groups: []string{"system:masters", "system:authenticated"}, Extra: map[string]authenticationv1.ExtraValue{"reason": {"test"}},
	}
	as := http.Header{
		"Impersonate-User": {"bob"}, "Impersonate-Uid": {"7"}, "Impersonate-Group": {"system:masters"}, "Impersonate-Extra-Reason": {"test"},
		"Content-Type": {"application/json"},
	}
	const path = "/api/v1/namespaces/default/configmaps"
	for what, c := range map[string]struct {
		method, path, body, token string
		header                    http.Header
		code                      int32
		user                      authenticationv1.UserInfo
		acted                     *authenticationv1.UserInfo
	}{
		"write":         {"POST", path, `{"metadata":{"generateName":"c"}}`, servertest.AdminToken, as, 201, admin, bob},
		"list":          {"GET", path, "", servertest.AdminToken, as, 200, admin, bob},
		"not found":     {"GET", path + "/none", "", servertest.AdminToken, as, 404, admin, bob},
		"no resource":   {"GET", "/version", "", servertest.AdminToken, as, 200, admin, bob},
		"as themselves": {"GET", path, "", servertest.AdminToken, nil, 200, admin, nil},
		"refused":       {"GET", path, "", servertest.AliceToken, as, 403, alice, nil},
		"malformed":     {"GET", path, "", servertest.AdminToken, http.Header{"Impersonate-Group": {"system:masters"}}, 400, admin, nil},
	} {
		e := r.only(t, wire.Send(t, r.URL, servertest.Request{Method: c.method, Path: c.path, Body: c.body, Token: c.token, Header: c.header}))
		if diff := cmp.Diff(c.user, e.User); diff != "" {
			t.Errorf("%s: who asked: %s", what, diff)
		}
		if diff := cmp.Diff(c.acted, e.ImpersonatedUser); diff != "" {
			t.Errorf("%s: for whom: %s", what, diff)
		}
		if e.ResponseStatus == nil || e.ResponseStatus.Code != c.code {
			t.Errorf("%s: %v, want the code %d", what, e.ResponseStatus, c.code)
		}
	}
}

// Requests to aggregated servers are recorded here, whatever becomes of them, under the id that the server behind gets as
// well. Bodies pass through and are not in the record, as upstream has it.
func TestAuditOfAggregatedRequests(t *testing.T) {
	t.Parallel()
	r := newRecording(t, "omitStages: [RequestReceived]\nrules: [{level: RequestResponse}]", nil, servertest.Config{Plane: withLoopback})
	sample := newSampleServer(t, r.Identity(servertest.Default).FrontProxyCA.Pool())
	register(t, r.Server, sample)
	const path = wardlePath + "/namespaces/x/flunders"
	send := func(method, path, body, token string) *servertest.Response {
		return wire.Send(t, r.URL, servertest.Request{Method: method, Path: path, Body: body, Token: token, Header: http.Header{"Content-Type": {"application/json"}}})
	}
	ref := func(name string) *auditv1.ObjectReference {
		return &auditv1.ObjectReference{Resource: "flunders", Namespace: "x", Name: name, APIGroup: wardle, APIVersion: "v1"}
	}
	check := func(what string, resp *servertest.Response, verb, user string, code int32, want *auditv1.ObjectReference) {
		t.Helper()
		e := r.only(t, resp)
		if e.Verb != verb || e.User.Username != user || e.ResponseStatus == nil || e.ResponseStatus.Code != code || e.Stage != auditv1.StageResponseComplete {
			t.Errorf("%s: %s %s by %s: %v", what, e.Stage, e.Verb, e.User.Username, e.ResponseStatus)
		}
		if diff := cmp.Diff(want, e.ObjectRef); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
		here := code == http.StatusForbidden || code == http.StatusServiceUnavailable // answered by this server, whose words are recorded
		if e.RequestObject != nil || e.ResponseObject != nil && !here {
			t.Errorf("%s: bodies are recorded: %v, %v", what, e.RequestObject, e.ResponseObject)
		}
		if e.Annotations["rowlock.io/cluster"] != servertest.Default {
			t.Errorf("%s: of the cluster %q", what, e.Annotations["rowlock.io/cluster"])
		}
	}
	resp := send("GET", path, "", servertest.AdminToken)
	var behind seen
	if err := json.Unmarshal([]byte(resp.Body), &behind); err != nil {
		t.Fatal(err)
	}
	if id := behind.Header.Get("Audit-Id"); id == "" || id != resp.Header.Get("Audit-Id") {
		t.Errorf("the server behind was told the id %q, the client %q", id, resp.Header.Get("Audit-Id"))
	}
	check("list", resp, "list", "admin", 200, ref(""))
	check("create", send("POST", path, `{"metadata":{"name":"a"}}`, servertest.AdminToken), "create", "admin", 200, ref(""))
	check("refused", send("GET", path+"/a", "", servertest.AliceToken), "get", "alice", 403, ref("a"))
	sample.answerWith(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	check("refused behind", send("DELETE", path+"/a", "", servertest.AdminToken), "delete", "admin", 418, ref("a"))
	sample.CloseClientConnections()
	sample.Close()
	check("nobody there", send("GET", path+"/a", "", servertest.AdminToken), "get", "admin", 503, ref("a"))
}
