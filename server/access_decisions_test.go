package server_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/rowlock-io/rowlock/server/authz"
	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/servertest"
)

// decider is an authorization webhook: it allows carol everything, denies Secrets to everybody whom it is asked about, and
// lets alice list pods only with a selector that it sees.
func decider(t *testing.T) string {
	t.Helper()
	hook := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		review := &authorizationv1.SubjectAccessReview{}
		if err := json.NewDecoder(req.Body).Decode(review); err != nil {
			t.Error(err)
		}
		asked := review.Spec.ResourceAttributes
		switch {
		case asked == nil:
		case asked.Resource == "secrets":
			review.Status.Denied = true
		case review.Spec.User == "carol":
			review.Status.Allowed = true
		case asked.Resource == "pods" && asked.FieldSelector != nil && len(asked.FieldSelector.Requirements) == 1:
			r := asked.FieldSelector.Requirements[0]
			review.Status.Allowed = r.Key == "spec.nodeName" && r.Operator == metav1.FieldSelectorOpIn && r.Values[0] == "mine"
		case asked.Resource == "configmaps" && asked.LabelSelector != nil && len(asked.LabelSelector.Requirements) == 1:
			r := asked.LabelSelector.Requirements[0]
			review.Status.Allowed = r.Key == "team" && r.Operator == metav1.LabelSelectorOpIn && r.Values[0] == "blue"
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(review)
	}))
	t.Cleanup(hook.Close)
	return hookConfig(t, hook)
}

// authorization is an AuthorizationConfiguration with a webhook before RBAC.
func authorization(hook, failurePolicy, condition string) []byte {
	return []byte(`apiVersion: apiserver.config.k8s.io/v1
kind: AuthorizationConfiguration
authorizers:
- {type: Node, name: node}
- type: Webhook
  name: hook
  webhook:
    timeout: 5s
    subjectAccessReviewVersion: v1
    matchConditionSubjectAccessReviewVersion: v1
    failurePolicy: ` + failurePolicy + `
    connectionInfo: {type: KubeConfigFile, kubeConfigFile: ` + hook + `}
    matchConditions: [{expression: '` + condition + `'}]
- {type: RBAC, name: rbac}
`)
}

func may(t *testing.T, client kubernetes.Interface, user string, attrs authorizationv1.ResourceAttributes) bool {
	t.Helper()
	review, err := client.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{User: user, Groups: []string{"system:authenticated"}, ResourceAttributes: &attrs},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return review.Status.Allowed
}

// An AuthorizationConfiguration is followed: match conditions, selectors, failure policies, and what it says later.
func TestAuthorizationConfigurationIsFollowed(t *testing.T) {
	t.Parallel()
	hook, file := decider(t), filepath.Join(t.TempDir(), "authz.yaml")
	write(t, file, authorization(hook, "Deny", `request.user != "alice" || has(request.resourceAttributes)`))
	s := startWith(t, func(c *controlplane.Config) { c.Access.AuthorizationFile = file }, "other")
	admin := s.Client(t, servertest.Default)
	configMaps := authorizationv1.ResourceAttributes{Verb: "create", Resource: "configmaps", Namespace: "default"}
	if !may(t, admin, "carol", configMaps) || may(t, admin, "dave", configMaps) {
		t.Error("the webhook is not asked")
	}
	if may(t, s.Client(t, "other"), "carol", configMaps) {
		t.Error("the operator's webhook decides in another cluster, which it cannot tell apart")
	}
	alice := servertest.NewClient(t, s.Config(servertest.Default, servertest.AliceToken)).CoreV1()
	_, err := alice.Pods("default").List(t.Context(), metav1.ListOptions{FieldSelector: "spec.nodeName=mine"})
	allowed(t, "a selector that is allowed", err)
	_, err = alice.ConfigMaps("default").List(t.Context(), metav1.ListOptions{LabelSelector: "team=blue"})
	allowed(t, "a label selector that is allowed", err)
	for _, opts := range []metav1.ListOptions{{}, {FieldSelector: "spec.nodeName=theirs"}, {FieldSelector: "spec.nodeName!=mine"}, {LabelSelector: "a=b"}} {
		_, err = alice.Pods("default").List(t.Context(), opts)
		refused(t, "pods with "+opts.FieldSelector+opts.LabelSelector, err)
	}
	_, err = admin.CoreV1().Secrets("default").List(t.Context(), metav1.ListOptions{})
	allowed(t, "system:masters, whom nobody is asked about", err)

	// RBAC must stay; what is refused changes nothing; then the condition excludes all.
	write(t, file, []byte("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers: [{type: AlwaysAllow, name: alwaysallow}]\n"))
	write(t, file, authorization(hook, "Deny", `request.user == "nobody"`))
	await(t, "the new configuration", func() bool { return !may(t, admin, "carol", configMaps) })
	if may(t, admin, "dave", configMaps) {
		t.Error("a configuration without the authorizers of before is in force")
	}
	// A webhook that does not answer denies, if that is its policy.
	gone := httptest.NewTLSServer(http.NotFoundHandler())
	config := hookConfig(t, gone)
	gone.Close()
	write(t, file, authorization(config, "Deny", `request.user == "edna"`))
	rules := []rbacv1.PolicyRule{{Verbs: []string{"create"}, APIGroups: []string{""}, Resources: []string{"configmaps"}}}
	_, err = admin.RbacV1().Roles("default").Create(t.Context(), &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "r"}, Rules: rules}, metav1.CreateOptions{})
	allowed(t, "role", err)
	_, err = admin.RbacV1().RoleBindings("default").Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "r"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "r"},
		Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "edna"}, {Kind: "User", APIGroup: rbacv1.GroupName, Name: "fred"}},
	}, metav1.CreateOptions{})
	allowed(t, "binding", err)
	await(t, "a webhook that is gone denies", func() bool { return may(t, admin, "fred", configMaps) && !may(t, admin, "edna", configMaps) })
}

func TestAuthorizationModes(t *testing.T) {
	t.Parallel()
	s := startWith(t, func(c *controlplane.Config) { c.Access.Authorizers = authz.Modes("AlwaysDeny") })
	if _, err := s.Client(t, servertest.Default).CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Errorf("system:masters: %v", err)
	}
	_, err := servertest.NewClient(t, s.Config(servertest.Default, servertest.AliceToken)).CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{})
	refused(t, "alice", err)
}

// Nobody grants what they do not have, unless they may escalate or bind.
func TestNobodyGrantsMoreThanTheyHave(t *testing.T) {
	t.Parallel()
	s := startWith(t, nil)
	admin := s.Client(t, servertest.Default).RbacV1()
	rule := func(verb, group, resource string, names ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{Verbs: []string{verb}, APIGroups: []string{group}, Resources: []string{resource}, ResourceNames: names}
	}
	all := rbacv1.PolicyRule{Verbs: []string{"create", "update", "get"}, APIGroups: []string{rbacv1.GroupName}, Resources: []string{"roles", "rolebindings"}}
	role := func(name string, rules ...rbacv1.PolicyRule) *rbacv1.Role {
		return &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}
	}
	binding := func(name, to string) *rbacv1.RoleBinding {
		return &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: to},
			Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "alice"}},
		}
	}
	for _, r := range []*rbacv1.Role{role("granter", all, rule("get", "", "pods")), role("secrets", rule("get", "", "secrets")), role("special", rule("bind", rbacv1.GroupName, "roles", "secrets"), rule("escalate", rbacv1.GroupName, "roles"))} {
		_, err := admin.Roles("default").Create(t.Context(), r, metav1.CreateOptions{})
		allowed(t, r.Name, err)
	}
	_, err := admin.RoleBindings("default").Create(t.Context(), binding("granter", "granter"), metav1.CreateOptions{})
	allowed(t, "binding", err)
	alice := servertest.NewClient(t, s.Config(servertest.Default, servertest.AliceToken)).RbacV1()
	await(t, "alice may grant", func() bool {
		_, err := alice.Roles("default").Get(t.Context(), "granter", metav1.GetOptions{})
		return err == nil
	})
	_, err = alice.Roles("default").Create(t.Context(), role("same", rule("get", "", "pods")), metav1.CreateOptions{})
	allowed(t, "a role with what she has", err)
	_, err = alice.Roles("default").Create(t.Context(), role("more", rule("get", "", "secrets")), metav1.CreateOptions{})
	refused(t, "a role with more", err)
	_, err = alice.Roles("default").Create(t.Context(), role("star", rule("*", "*", "*")), metav1.CreateOptions{})
	refused(t, "a role with all", err)
	_, err = alice.RoleBindings("default").Create(t.Context(), binding("more", "secrets"), metav1.CreateOptions{})
	refused(t, "a binding of more", err)
	cluster := binding("cluster", "cluster-admin")
	cluster.RoleRef.Kind = "ClusterRole"
	_, err = alice.RoleBindings("default").Create(t.Context(), cluster, metav1.CreateOptions{})
	refused(t, "a binding of cluster-admin", err)
	_, err = admin.RoleBindings("default").Create(t.Context(), binding("special", "special"), metav1.CreateOptions{})
	allowed(t, "binding", err)
	await(t, "alice may bind secrets", func() bool {
		_, err := alice.RoleBindings("default").Create(t.Context(), binding("more", "secrets"), metav1.CreateOptions{})
		return err == nil
	})
	_, err = alice.Roles("default").Create(t.Context(), role("risen", rule("*", "*", "*")), metav1.CreateOptions{})
	allowed(t, "a role with all, by who may escalate", err)
}

// Certificate signing requests: nodes ask for their own, and approving, signing and the privileged group need rights.
func TestCertificateRequestsDoNotGainGroups(t *testing.T) {
	t.Parallel()
	n := newNodes(t)
	csr := func(name, user string, groups ...string) *certificatesv1.CertificateSigningRequest {
		return &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: certificatesv1.CertificateSigningRequestSpec{
			Request: signingRequest(t, user, groups...), SignerName: certificatesv1.KubeAPIServerClientKubeletSignerName,
			Usages: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth},
		}}
	}
	requests := n.one.CertificatesV1().CertificateSigningRequests()
	_, err := requests.Create(t.Context(), csr("own", "system:node:one", "system:nodes"), metav1.CreateOptions{})
	allowed(t, "its own", err)
	_, err = requests.Create(t.Context(), csr("theirs", "system:node:two", "system:nodes"), metav1.CreateOptions{})
	refused(t, "another node's", err)
	masters := csr("masters", "ann", "system:masters")
	masters.Spec.SignerName = certificatesv1.KubeAPIServerClientSignerName
	_, err = n.admin.CertificatesV1().CertificateSigningRequests().Create(t.Context(), masters, metav1.CreateOptions{})
	refused(t, "system:masters", err)
	got, err := requests.Get(t.Context(), "own", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: certificatesv1.CertificateApproved, Status: "True", Reason: "r"}}
	_, err = requests.UpdateApproval(t.Context(), "own", got, metav1.UpdateOptions{})
	refused(t, "a node approves", err)
	// Who may approve at all may still not approve for a signer.
	_, err = n.admin.RbacV1().ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "approver"}, Rules: []rbacv1.PolicyRule{{
		Verbs: []string{"get", "update"}, APIGroups: []string{"certificates.k8s.io"}, Resources: []string{"certificatesigningrequests/approval", "certificatesigningrequests/status"},
	}}}, metav1.CreateOptions{})
	allowed(t, "role", err)
	_, err = n.admin.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "approver"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "approver"},
		Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "alice"}},
	}, metav1.CreateOptions{})
	allowed(t, "binding", err)
	alice := servertest.NewClient(t, n.Config(servertest.Default, servertest.AliceToken)).CertificatesV1().CertificateSigningRequests()
	await(t, "the plug-ins are asked", func() bool {
		_, err := alice.UpdateApproval(t.Context(), "own", got, metav1.UpdateOptions{})
		return err != nil && strings.Contains(err.Error(), "not permitted to approve")
	})
	got.Status.Conditions, got.Status.Certificate = nil, n.Identity(servertest.Default).ClusterCA.Bundle()
	_, err = alice.UpdateStatus(t.Context(), got, metav1.UpdateOptions{})
	refused(t, "signing without the right to sign", err)
}
