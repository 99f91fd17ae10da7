package aggregation

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	apiregistration "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-aggregator/pkg/apis/apiregistration/v1/helper"
	aggregator "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"
	apiservices "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset/typed/apiregistration/v1"
	"k8s.io/utils/ptr"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

const (
	namespace      = "aggregator"
	serviceName    = "sample-api"
	servicePort    = 7443
	apiServiceName = version + "." + group
)

// env is a server with the sample server behind it.
type env struct {
	config   *rest.Config
	client   kubernetes.Interface
	services apiservices.APIServiceInterface
	sample   *sample
}

// TestSampleAPIServer is, step by step, upstream's "Should be able to support the 1.17 Sample API Server using the current
// Aggregator", and what happens when the sample server goes and returns.
func TestSampleAPIServer(t *testing.T) {
	t.Parallel()
	harness.Only(t, func(t *testing.T, target harness.Target) {
		server := target.NewCluster(t).StartServer(t)
		e := env{config: server.Config(t), client: server.Client(t)}
		e.services = aggregator.NewForConfigOrDie(e.config).ApiregistrationV1().APIServices()
		e.deploy(t)
		for _, step := range []struct {
			name string
			do   func(*testing.T, env)
		}{
			{"flunders over HTTP", overHTTP},
			{"flunders by the dynamic client", dynamically},
			{"users are known behind", users},
			{"OpenAPI", openAPI},
			{"the server goes and returns", outage},
			{"the APIService changes", changes},
			{"the APIService goes", removal},
		} {
			if !t.Run(step.name, func(t *testing.T) { step.do(t, e) }) {
				break
			}
		}
	}, harness.SQLite, harness.OnPostgres)
}

// deploy starts the sample server with what it needs, and makes it known.
func (e *env) deploy(t *testing.T) {
	harness.NewNamespace(t, e.client, namespace)
	subject := []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: namespace, Name: "default"}}
	create(t, e.client.RbacV1().ClusterRoleBindings().Create, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "wardler:auth-delegator"}, Subjects: subject,
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "system:auth-delegator"},
	})
	create(t, e.client.RbacV1().RoleBindings(metav1.NamespaceSystem).Create, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "wardler-auth-reader"}, Subjects: subject,
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "extension-apiserver-authentication-reader"},
	})
	token, err := e.client.CoreV1().ServiceAccounts(namespace).CreateToken(t.Context(), "default", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cert, key := harness.NewCertificate(t, serviceName+"."+namespace+".svc")
	address := harness.MachineAddress(t)
	host := address
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	e.sample = &sample{address: host + ":0", setup: setup{Cert: cert, Key: key, URL: e.config.Host, CA: e.config.CAData, Token: token.Status.Token}}
	await(t, "the sample server may read whom to believe", func() bool {
		as := rest.AnonymousClientConfig(e.config)
		as.BearerToken = token.Status.Token
		_, err := authenticationConfig(harness.ClientFor(t, as))
		return err == nil
	})
	port := e.sample.start(t)
	t.Cleanup(e.sample.stop)
	create(t, e.client.CoreV1().Services(namespace).Create, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: serviceName}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "https", Port: servicePort}}},
	})
	create(t, e.client.DiscoveryV1().EndpointSlices(namespace).Create, &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: serviceName, Labels: map[string]string{discoveryv1.LabelServiceName: serviceName}},
		AddressType: harness.AddressType(address),
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)}}},
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To("https"), Port: ptr.To(int32(port))}},
	})
	create(t, e.services.Create, &apiregistration.APIService{
		ObjectMeta: metav1.ObjectMeta{Name: apiServiceName},
		Spec: apiregistration.APIServiceSpec{
			Group: group, Version: version, CABundle: cert, GroupPriorityMinimum: 2000, VersionPriority: 200,
			Service: &apiregistration.ServiceReference{Namespace: namespace, Name: serviceName, Port: ptr.To(int32(servicePort))},
		},
	})
	await(t, "the sample server answers", func() bool {
		_, err := e.raw(t, http.MethodGet, "/namespaces/default/flunders", "")
		return err == nil
	})
}

// raw sends a request for a path below the version.
func (e *env) raw(t *testing.T, verb, path, body string) ([]byte, error) {
	t.Helper()
	return e.client.Discovery().RESTClient().Verb(verb).AbsPath("/apis/"+groupVersion+path).Body([]byte(body)).
		SetHeader("Accept", "application/json").SetHeader("Content-Type", "application/json").DoRaw(t.Context())
}

func (e *env) mustRaw(t *testing.T, verb, path, body string) []byte {
	t.Helper()
	answer, err := e.raw(t, verb, path, body)
	if err != nil {
		t.Fatalf("%s %s: %v: %s", verb, path, err, answer)
	}
	return answer
}

func flunder(name string) string {
	return `{"apiVersion":"` + groupVersion + `","kind":"Flunder","metadata":{"labels":{"sample-label":"true"},"name":"` + name + `","namespace":"default"}}`
}

func (e *env) count(t *testing.T) int {
	t.Helper()
	var list unstructured.UnstructuredList
	if err := list.UnmarshalJSON(e.mustRaw(t, http.MethodGet, "/namespaces/default/flunders", "")); err != nil {
		t.Fatal(err)
	}
	return len(list.Items)
}

func overHTTP(t *testing.T, e env) {
	var code int
	u := &unstructured.Unstructured{}
	result := e.client.Discovery().RESTClient().Post().AbsPath("/apis/"+groupVersion+"/namespaces/default/flunders").
		Body([]byte(flunder("one"))).SetHeader("Accept", "application/json").Do(t.Context()).StatusCode(&code)
	if err := result.Into(u); err != nil || code != http.StatusCreated {
		t.Fatalf("status %d: %v", code, err)
	}
	if u.GetAPIVersion() != groupVersion || u.GetKind() != "Flunder" || u.GetName() != "one" {
		t.Errorf("created %v", u)
	}
	if n := e.count(t); n != 1 {
		t.Errorf("%d flunders", n)
	}
	e.mustRaw(t, http.MethodDelete, "/namespaces/default/flunders/one", "")
	if n := e.count(t); n != 0 {
		t.Errorf("%d flunders after the deletion", n)
	}
}

func dynamically(t *testing.T, e env) {
	gvr := schema.GroupVersionResource{Group: group, Version: version, Resource: "flunders"}
	await(t, "discovery has it", func() bool {
		lists, err := e.client.Discovery().ServerPreferredNamespacedResources()
		if err != nil {
			t.Fatal(err)
		}
		resources, err := discovery.GroupVersionResources(lists)
		if err != nil {
			t.Fatal(err)
		}
		_, ok := resources[gvr]
		return ok
	})
	client, err := dynamic.NewForConfig(e.config)
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON([]byte(flunder("two"))); err != nil {
		t.Fatal(err)
	}
	flunders := client.Resource(gvr).Namespace("default")
	if _, err := flunders.Create(t.Context(), u, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	list, err := flunders.List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 {
		t.Fatalf("%v: %v", list, err)
	}
	if err := flunders.Delete(t.Context(), "two", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// users: the sample server asks the cluster what the user may whom the cluster named.
func users(t *testing.T, e env) {
	as := rest.CopyConfig(e.config)
	as.Impersonate = rest.ImpersonationConfig{UserName: "jane", Groups: []string{"rowers"}}
	jane := env{config: as, client: harness.ClientFor(t, as)}
	if _, err := jane.raw(t, http.MethodGet, "/namespaces/default/flunders", ""); !apierrors.IsForbidden(err) || strings.Contains(err.Error(), "wardle:") {
		t.Errorf("without rights: %v", err)
	}
	create(t, e.client.RbacV1().Roles("default").Create, &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: "flunders"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{group}, Resources: []string{"flunders"}, Verbs: []string{"create", "get", "list"}}},
	})
	create(t, e.client.RbacV1().RoleBindings("default").Create, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "flunders"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "flunders"},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "Group", Name: "rowers"}},
	})
	await(t, "jane may create", func() bool {
		_, err := jane.raw(t, http.MethodPost, "/namespaces/default/flunders", flunder("jane"))
		return err == nil
	})
	if got := string(e.mustRaw(t, http.MethodGet, "/namespaces/default/flunders/jane", "")); !strings.Contains(got, `"created-by":"jane"`) {
		t.Errorf("jane's: %s", got)
	}
	if _, err := jane.raw(t, http.MethodDelete, "/namespaces/default/flunders/jane", ""); !apierrors.IsForbidden(err) {
		t.Errorf("delete: %v", err)
	}
	e.mustRaw(t, http.MethodDelete, "/namespaces/default/flunders/jane", "")
}

func openAPI(t *testing.T, e env) {
	await(t, "OpenAPI has it", func() bool {
		paths, err := e.client.Discovery().OpenAPIV3().Paths()
		if err != nil {
			t.Fatal(err)
		}
		p, ok := paths["apis/"+groupVersion]
		if !ok {
			return false
		}
		text, err := p.Schema("application/json")
		return err == nil && strings.Contains(string(text), `"wardle"`)
	})
}

// outage: requests fail at once, and discovery of everything else goes on, while the server is away.
func outage(t *testing.T, e env) {
	e.sample.stop()
	touched := touch(t, e.client, "gone")
	await(t, "it is known to be away", func() bool { return e.condition(t).Status == apiregistration.ConditionFalse })
	if c := e.condition(t); c.Reason != "FailedDiscoveryCheck" {
		t.Errorf("condition %+v", c)
	}
	await(t, "requests are refused", func() bool {
		_, err := e.raw(t, http.MethodGet, "/namespaces/default/flunders", "")
		return apierrors.IsServiceUnavailable(err)
	})
	if _, err := e.client.CoreV1().Namespaces().Get(t.Context(), touched, metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	_, lists, err := e.client.Discovery().ServerGroupsAndResources()
	if len(lists) < 20 || err != nil && !strings.Contains(err.Error(), groupVersion) {
		t.Errorf("discovery has %d lists: %v", len(lists), err)
	}
	e.sample.start(t)
	touch(t, e.client, "back")
	await(t, "it is back", func() bool {
		_, err := e.raw(t, http.MethodGet, "/namespaces/default/flunders", "")
		return err == nil && e.condition(t).Status == apiregistration.ConditionTrue
	})
}

func (e *env) get(t *testing.T) *apiregistration.APIService {
	t.Helper()
	s, err := e.services.Get(t.Context(), apiServiceName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (e *env) condition(t *testing.T) apiregistration.APIServiceCondition {
	t.Helper()
	return *helper.GetAPIServiceConditionByType(e.get(t), apiregistration.Available)
}

// touch changes the Service, which has its server looked at at once. It returns the namespace.
func touch(t *testing.T, client kubernetes.Interface, value string) string {
	t.Helper()
	patch := []byte(`{"metadata":{"annotations":{"touched":"` + value + `"}}}`)
	if _, err := client.CoreV1().Services(namespace).Patch(t.Context(), serviceName, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	return namespace
}

func changes(t *testing.T, e env) {
	restClient := e.client.Discovery().RESTClient()
	const path = "/apis/apiregistration.k8s.io/v1/apiservices/" + apiServiceName
	get := func(path string) *apiregistration.APIService {
		t.Helper()
		text, err := restClient.Get().AbsPath(path).SetHeader("Accept", "application/json").DoRaw(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s := &apiregistration.APIService{}
		if err := json.Unmarshal(text, s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	before := get(path + "/status")
	if m := before.Status.Conditions[0].Message; m != "all checks passed" {
		t.Errorf("message %q", m)
	}
	patched, err := e.services.Patch(t.Context(), apiServiceName, types.MergePatchType, []byte(`{"spec":{"versionPriority":400}}`), metav1.PatchOptions{})
	if err != nil || patched.Spec.VersionPriority != 400 {
		t.Fatalf("%+v: %v", patched, err)
	}
	if order, err := resourceversion.CompareResourceVersion(before.ResourceVersion, patched.ResourceVersion); order != -1 || err != nil {
		t.Errorf("%s is not before %s: %v", before.ResourceVersion, patched.ResourceVersion, err)
	}
	list, err := e.services.List(t.Context(), metav1.ListOptions{})
	if err != nil || !contains(list, apiServiceName) || !contains(list, "v1.apps") {
		t.Errorf("listed %d: %v", len(list.Items), err)
	}
	if _, err := e.services.Patch(t.Context(), apiServiceName, types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"e2e-apiservice":"patched"}}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, "the status is written", func() bool {
		s := get(path + "/status")
		s.Status.Conditions = append(s.Status.Conditions, apiregistration.APIServiceCondition{Type: "StatusUpdated", Status: "True", Reason: "E2E", Message: "Set from a test"})
		_, err := e.services.UpdateStatus(t.Context(), s, metav1.UpdateOptions{})
		if err != nil && !apierrors.IsConflict(err) {
			t.Fatal(err)
		}
		return err == nil
	})
	touch(t, e.client, "again")
	if helper.GetAPIServiceConditionByType(get(path+"/status"), "StatusUpdated") == nil {
		t.Error("the condition of a user is gone")
	}
	await(t, "the label is replaced", func() bool {
		s := e.get(t)
		s.Labels["e2e-apiservice"] = "updated"
		s, err := e.services.Update(t.Context(), s, metav1.UpdateOptions{})
		return err == nil && s.Labels["e2e-apiservice"] == "updated"
	})
}

func removal(t *testing.T, e env) {
	if err := e.services.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "e2e-apiservice=updated"}); err != nil {
		t.Fatal(err)
	}
	await(t, "it is gone", func() bool {
		list, err := e.services.List(t.Context(), metav1.ListOptions{})
		return err == nil && !contains(list, apiServiceName) && contains(list, "v1.apps")
	})
	await(t, "its path is gone", func() bool {
		_, err := e.raw(t, http.MethodGet, "/namespaces/default/flunders", "")
		return apierrors.IsNotFound(err)
	})
	groups, err := e.client.Discovery().ServerGroups()
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range groups.Groups {
		if g.Name == group {
			t.Error("discovery still has it")
		}
	}
}

func contains(list *apiregistration.APIServiceList, name string) bool {
	for _, s := range list.Items {
		if s.Name == name {
			return true
		}
	}
	return false
}

func create[T any](t *testing.T, call func(context.Context, T, metav1.CreateOptions) (T, error), obj T) T {
	t.Helper()
	made, err := call(t.Context(), obj, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// await waits for what happens soon. The bound is only for tests that fail.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
