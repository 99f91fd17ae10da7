package server_test

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"testing"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/servertest"
)

const dumps = "/debug/api_priority_and_fairness/"

// TestClassification looks at how requests are sorted, by the headers of answers.
func TestClassification(t *testing.T) {
	t.Parallel()
	client := shared.Client(t, servertest.Default)
	schemas, err := client.FlowcontrolV1().FlowSchemas().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	levels, err := client.FlowcontrolV1().PriorityLevelConfigurations().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{}
	for _, s := range schemas.Items {
		names[string(s.UID)] = s.Name
	}
	for _, l := range levels.Items {
		names[string(l.UID)] = l.Name
	}
	for _, c := range []struct {
		method, path, token, schema, level string
	}{
		{"GET", "/api/v1/namespaces/default/configmaps", servertest.AdminToken, "exempt", "exempt"},
		{"GET", "/healthz", "", "probes", "exempt"},
		{"GET", "/api/v1/namespaces/default", servertest.AliceToken, "global-default", "global-default"},
		{"GET", "/api/v1/namespaces/default", "", "global-default", "global-default"},
		{"GET", "/api/v1/namespaces?watch=1&timeoutSeconds=1", servertest.AdminToken, "exempt", "exempt"},
		{"POST", "/api/v1/namespaces/default/pods", servertest.AliceToken, "global-default", "global-default"},
	} {
		resp := wire.Send(t, shared.URL, servertest.Request{Method: c.method, Path: c.path, Token: c.token})
		schema := names[resp.Header.Get(flowcontrolv1.ResponseHeaderMatchedFlowSchemaUID)]
		level := names[resp.Header.Get(flowcontrolv1.ResponseHeaderMatchedPriorityLevelConfigurationUID)]
		if schema != c.schema || level != c.level {
			t.Errorf("%s %s is of flow schema %q and level %q, want %q and %q", c.method, c.path, schema, level, c.schema, c.level)
		}
	}
}

// TestDanglingFlowSchema looks for the condition of a flow schema without a level, and with one.
func TestDanglingFlowSchema(t *testing.T) {
	t.Parallel()
	client := shared.Client(t, servertest.Default).FlowcontrolV1()
	schema := schemaFor("dangling", "nobody", "later")
	if _, err := client.FlowSchemas().Create(t.Context(), schema, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	dangling := func(want flowcontrolv1.ConditionStatus) func() bool {
		return func() bool {
			got, err := client.FlowSchemas().Get(t.Context(), "dangling", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range got.Status.Conditions {
				if c.Type == flowcontrolv1.FlowSchemaConditionDangling {
					return c.Status == want
				}
			}
			return false
		}
	}
	await(t, "the flow schema dangles", dangling(flowcontrolv1.ConditionTrue))
	if _, err := client.PriorityLevelConfigurations().Create(t.Context(), narrow("later"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, "the flow schema has its level", dangling(flowcontrolv1.ConditionFalse))
}

func schemaFor(name, user, level string) *flowcontrolv1.FlowSchema {
	return &flowcontrolv1.FlowSchema{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: flowcontrolv1.FlowSchemaSpec{
			PriorityLevelConfiguration: flowcontrolv1.PriorityLevelConfigurationReference{Name: level}, MatchingPrecedence: 500,
			Rules: []flowcontrolv1.PolicyRulesWithSubjects{{
				Subjects: []flowcontrolv1.Subject{{Kind: flowcontrolv1.SubjectKindUser, User: &flowcontrolv1.UserSubject{Name: user}}},
				ResourceRules: []flowcontrolv1.ResourcePolicyRule{{
					Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}, ClusterScope: true, Namespaces: []string{"*"},
				}},
			}},
		},
	}
}

// narrow is a level of one seat, where nobody waits.
func narrow(name string) *flowcontrolv1.PriorityLevelConfiguration {
	shares, lend := int32(1), int32(0)
	return &flowcontrolv1.PriorityLevelConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: flowcontrolv1.PriorityLevelConfigurationSpec{
			Type: flowcontrolv1.PriorityLevelEnablementLimited,
			Limited: &flowcontrolv1.LimitedPriorityLevelConfiguration{
				NominalConcurrencyShares: &shares, LendablePercent: &lend, BorrowingLimitPercent: &lend,
				LimitResponse: flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeReject},
			},
		},
	}
}

// letAlice lets alice do everything in a cluster.
func letAlice(t testing.TB, client kubernetes.Interface) {
	t.Helper()
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "alice"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "alice"}},
	}
	if _, err := client.RbacV1().ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// stall sends a write whose body does not come. Closing the connection ends it.
func stall(t *testing.T, server *servertest.Server, root string) *tls.Conn {
	t.Helper()
	conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(t.Context(), "tcp", strings.TrimPrefix(server.URL, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_, err = fmt.Fprintf(conn, "POST %s/api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"+
		"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{", root, servertest.AliceToken)
	if err != nil {
		t.Fatal(err)
	}
	return conn.(*tls.Conn)
}

// stallUntil stalls a write until that has come true. A stalled write may have come when the seat of the request before was not
// free yet, and been refused itself: then there is another.
func stallUntil(t *testing.T, server *servertest.Server, root, what string, come func() bool) *tls.Conn {
	t.Helper()
	var stalled *tls.Conn
	await(t, what, func() bool {
		if stalled != nil {
			_ = stalled.Close()
		}
		stalled = stall(t, server, root)
		for range 20 {
			if come() {
				return true
			}
		}
		return false
	})
	return stalled
}

// TestSeatsAreEachClustersOwn takes the seat of a user in one cluster, and looks who is refused: he, there, and nobody
// else.
func TestSeatsAreEachClustersOwn(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{Clusters: []string{"a", "b"}, Plane: func(c *controlplane.Config) {
		c.Flow = controlplane.Flow{ReadOnly: 200, Mutating: -1} // less than there are shares: a level with one share has one seat
	}})
	for _, cluster := range []string{"a", "b"} {
		client := s.Client(t, cluster)
		letAlice(t, client)
		flow := client.FlowcontrolV1()
		if _, err := flow.PriorityLevelConfigurations().Create(t.Context(), narrow("narrow"), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := flow.FlowSchemas().Create(t.Context(), schemaFor("alice", "alice", "narrow"), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	get := func(cluster, path, token string) *servertest.Response {
		return wire.Send(t, s.Address(cluster), servertest.Request{Method: "GET", Path: path, Token: token})
	}
	for _, cluster := range []string{"a", "b"} {
		await(t, "alice may, and her requests are of her level", func() bool {
			return get(cluster, "/api/v1/namespaces/default", servertest.AliceToken).Status == 200 &&
				strings.Contains(get(cluster, dumps+"dump_priority_levels", servertest.AdminToken).Body, "narrow, ")
		})
	}
	refused := func() *servertest.Response { return get("a", "/api/v1/namespaces/default", servertest.AliceToken) }
	stalled := stallUntil(t, s, "/clusters/a", "alice is refused where her seat is taken", func() bool {
		return refused().Status == http.StatusTooManyRequests
	})
	if resp := refused(); resp.Header.Get("Retry-After") != "1" || resp.Body != "Too many requests, please try again later.\n" {
		t.Errorf("the refusal has Retry-After %q and says %q", resp.Header.Get("Retry-After"), resp.Body)
	}
	if resp := get("a", "/api/v1/namespaces/default", ""); resp.Status == http.StatusTooManyRequests {
		t.Error("somebody else was refused too")
	}
	if resp := get("b", "/api/v1/namespaces/default", servertest.AliceToken); resp.Status != 200 {
		t.Errorf("alice got %d in another cluster", resp.Status)
	}
	if dump := get("a", dumps+"dump_requests?includeRequestDetails=1", servertest.AdminToken); !strings.Contains(dump.Body, "narrow, ") || !strings.Contains(dump.Body, "alice") {
		t.Errorf("who has a seat is not shown: %s", dump.Body)
	}
	_ = stalled.Close()
	await(t, "alice has her seat back", func() bool { return refused().Status == 200 })
}

// TestPlainBounds turns fairness off: what is beyond the bound is refused, but to administrators.
func TestPlainBounds(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{Plane: func(c *controlplane.Config) {
		c.Flow = controlplane.Flow{Plain: true, Mutating: 1, ReadOnly: -1}
	}})
	letAlice(t, s.Client(t, servertest.Default))
	write := func(token string) *servertest.Response {
		return wire.Send(t, s.URL, servertest.Request{
			Method: "DELETE", Path: "/api/v1/namespaces/default/configmaps/none", Token: token,
		})
	}
	await(t, "alice may", func() bool { return write(servertest.AliceToken).Status == 404 })
	stalled := stallUntil(t, s, "", "alice is refused", func() bool { return write(servertest.AliceToken).Status == http.StatusTooManyRequests })
	if resp := write(servertest.AdminToken); resp.Status != 404 {
		t.Errorf("an administrator got %d", resp.Status)
	}
	if resp := wire.Send(t, s.URL, servertest.Request{Method: "GET", Path: "/api/v1/nodes", Token: servertest.AliceToken}); resp.Status != 200 {
		t.Errorf("a read got %d", resp.Status)
	}
	if resp := wire.Send(t, s.URL, servertest.Request{Method: "GET", Path: dumps + "dump_requests", Token: servertest.AdminToken}); resp.Status != 404 {
		t.Errorf("without fairness its dumps got %d", resp.Status)
	}
	_ = stalled.Close()
	await(t, "alice is served again", func() bool { return write(servertest.AliceToken).Status == 404 })
}
