package server_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	extensions "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	apiregistration "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-aggregator/pkg/apis/apiregistration/v1/helper"

	"github.com/rowlock-io/rowlock/server/servertest"
	"github.com/rowlock-io/rowlock/storage/memory"
)

// aggregatedVersion is what the aggregated discovery document says about the sample server's version; nil for nothing.
func aggregatedVersion(t *testing.T, s *servertest.Server) *apidiscoveryv2.APIVersionDiscovery {
	t.Helper()
	resp := wire.Send(t, s.URL, servertest.Request{
		Method: http.MethodGet, Path: "/apis", Token: servertest.AdminToken,
		Header: http.Header{"Accept": {"application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}},
	})
	var list apidiscoveryv2.APIGroupDiscoveryList
	if err := json.Unmarshal([]byte(resp.Body), &list); err != nil {
		t.Fatalf("%v: %s", err, resp.Body)
	}
	for _, g := range list.Items {
		if g.Name == wardle {
			return &g.Versions[0]
		}
	}
	return nil
}

func TestAggregation(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{Plane: withLoopback})
	sample := newSampleServer(t, s.Identity(servertest.Default).FrontProxyCA.Pool())
	get := func(path string) *servertest.Response {
		t.Helper()
		return wire.Send(t, s.URL, servertest.Request{Method: http.MethodGet, Path: path, Token: servertest.AdminToken})
	}
	if resp := get(wardlePath); resp.Status != http.StatusNotFound {
		t.Fatalf("before: %+v", resp)
	}
	register(t, s, sample)

	resp := get(wardlePath + "/namespaces/x/flunders?limit=5")
	var got seen
	if err := json.Unmarshal([]byte(resp.Body), &got); err != nil {
		t.Fatalf("%v: %+v", err, resp)
	}
	want := seen{Method: http.MethodGet, URI: wardlePath + "/namespaces/x/flunders?limit=5", Certificate: "front-proxy-client"}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(seen{}, "Header")); diff != "" {
		t.Error(diff)
	}
	identity := map[string][]string{}
	for name, values := range got.Header {
		if strings.HasPrefix(name, "X-Remote-") || name == "Authorization" {
			identity[name] = values
		}
	}
	if diff := cmp.Diff(map[string][]string{
		"X-Remote-User": {"admin"}, "X-Remote-Uid": {"admin"}, "X-Remote-Group": {"system:masters", "system:authenticated"},
	}, identity); diff != "" {
		t.Error(diff)
	}

	// Others have to be allowed first, and nobody is known behind who is not known here.
	for token, code := range map[string]int{servertest.AliceToken: http.StatusForbidden, "": http.StatusForbidden, "wrong": http.StatusUnauthorized} {
		sample.answerWith(nil)
		resp := wire.Send(t, s.URL, servertest.Request{Method: http.MethodGet, Path: wardlePath + "/namespaces/x/flunders", Token: token})
		if resp.Status != code || len(sample.got()) > 0 {
			t.Errorf("token %q: %d, and %v got through", token, resp.Status, sample.got())
		}
	}

	await(t, "discovery", func() bool {
		v := aggregatedVersion(t, s)
		return v != nil && v.Freshness == apidiscoveryv2.DiscoveryFreshnessCurrent && len(v.Resources) == 1
	})
	await(t, "OpenAPI v3", func() bool {
		return strings.Contains(get("/openapi/v3").Body, `"/openapi/v3`+wardlePath+`?hash=1"`)
	})
	for path, words := range map[string][]string{
		"/apis":                     {`"` + wardle + `"`},
		"/apis/" + wardle:           {`"preferredVersion":{"groupVersion":"` + wardle + `/v1"`},
		wardlePath:                  {`"flunders"`},
		"/openapi/v3" + wardlePath:  {"of wardle"},
		wardlePath + "/flunders":    {"front-proxy-client"},
		wardlePath + "/flunders/a/": {"front-proxy-client"},
	} {
		resp := get(path)
		for _, word := range words {
			if !strings.Contains(resp.Body, word) {
				t.Errorf("%s: %d, no %s in %.300s", path, resp.Status, word, resp.Body)
			}
		}
	}
	if index := get("/openapi/v3").Body; strings.Contains(index, "elsewhere") {
		t.Error("the index leads away")
	}
	v2 := get("/openapi/v2").Body
	if !strings.Contains(v2, "listFlunders") || strings.Contains(v2, "/apis/apps/v1/stolen") {
		t.Error("the v2 document lacks what the server may say, or has what it may not")
	}

	client := newAggregatorClient(t, s)
	if err := client.ApiregistrationV1().APIServices().Delete(t.Context(), "v1."+wardle, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, "the group is gone", func() bool { return get("/apis/"+wardle).Status == http.StatusNotFound })
	await(t, "its path is gone", func() bool { return get(wardlePath+"/flunders").Status == http.StatusNotFound })
	if v := aggregatedVersion(t, s); v != nil {
		t.Errorf("discovery still has %+v", v)
	}
	if strings.Contains(get("/openapi/v3").Body, wardle) || strings.Contains(get("/openapi/v2").Body, "listFlunders") {
		t.Error("OpenAPI still has it")
	}
}

// TestAvailability: the condition follows the server, and so do requests and discovery.
func TestAvailability(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{Plane: withLoopback})
	client, kube := newAggregatorClient(t, s), s.Client(t, servertest.Default)
	name := "v1." + wardle
	sample := newSampleServer(t, s.Identity(servertest.Default).FrontProxyCA.Pool())
	services := client.ApiregistrationV1().APIServices()
	if _, err := services.Create(t.Context(), wardleService("wardle", sample.port()), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c := awaitAvailable(t, client, name, apiregistration.ConditionFalse, "ServiceNotFound")
	if c.Message != `service/wardle in "default" is not present` {
		t.Errorf("message %q", c.Message)
	}
	request := servertest.Request{Method: http.MethodGet, Path: wardlePath + "/flunders", Token: servertest.AdminToken}
	if resp := wire.Send(t, s.URL, request); resp.Status != http.StatusServiceUnavailable || resp.Body != "service unavailable\n" {
		t.Errorf("without a Service: %+v", resp)
	}
	if v := aggregatedVersion(t, s); v == nil || v.Freshness != apidiscoveryv2.DiscoveryFreshnessStale {
		t.Errorf("without a Service discovery has %+v", v)
	}
	if _, err := kube.CoreV1().Services("default").Create(t.Context(), externalService("wardle", "localhost"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitAvailable(t, client, name, apiregistration.ConditionTrue, "Passed")
	await(t, "requests get through", func() bool { return wire.Send(t, s.URL, request).Status == http.StatusOK })

	address := sample.Listener.Addr().String()
	sample.CloseClientConnections()
	sample.Close()
	// It is found out at the next check, which a change of the Service brings on.
	touch(t, kube, "wardle", "1")
	c = awaitAvailable(t, client, name, apiregistration.ConditionFalse, "FailedDiscoveryCheck")
	if !strings.HasPrefix(c.Message, "failing or missing response from https://localhost:") {
		t.Errorf("message %q", c.Message)
	}
	await(t, "requests are refused", func() bool { return wire.Send(t, s.URL, request).Status == http.StatusServiceUnavailable })
	await(t, "discovery is stale", func() bool {
		v := aggregatedVersion(t, s)
		return v != nil && v.Freshness == apidiscoveryv2.DiscoveryFreshnessStale && len(v.Resources) == 1
	})

	restartSampleServer(t, sample, address)
	touch(t, kube, "wardle", "2")
	awaitAvailable(t, client, name, apiregistration.ConditionTrue, "Passed")
	await(t, "requests get through again", func() bool { return wire.Send(t, s.URL, request).Status == http.StatusOK })

	// Without a Service it is served here, which is always available.
	have, err := services.Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	have.Spec.Service, have.Spec.InsecureSkipTLSVerify = nil, false
	if _, err := services.Update(t.Context(), have, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitAvailable(t, client, name, apiregistration.ConditionTrue, "Local")
}

// TestAPIServicesOfCustomResources: they come with a definition's versions, are restored, and go with them.
func TestAPIServicesOfCustomResources(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{})
	services := newAggregatorClient(t, s).ApiregistrationV1().APIServices()
	definitions, err := extensions.NewForConfig(s.Config(servertest.Default, servertest.AdminToken))
	if err != nil {
		t.Fatal(err)
	}
	schema := &apiextensions.CustomResourceValidation{OpenAPIV3Schema: &apiextensions.JSONSchemaProps{Type: "object"}}
	crd := &apiextensions.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "boats." + wardle},
		Spec: apiextensions.CustomResourceDefinitionSpec{
			Group: wardle, Scope: apiextensions.ClusterScoped,
			Names: apiextensions.CustomResourceDefinitionNames{Plural: "boats", Singular: "boat", Kind: "Boat", ListKind: "BoatList"},
			Versions: []apiextensions.CustomResourceDefinitionVersion{
				{Name: "v1", Served: true, Storage: true, Schema: schema}, {Name: "v2", Served: true, Schema: schema}, {Name: "v3", Schema: schema},
			},
		},
	}
	crds := definitions.ApiextensionsV1().CustomResourceDefinitions()
	if _, err := crds.Create(t.Context(), crd, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	find := func(version string) *apiregistration.APIService {
		one, err := services.Get(t.Context(), version+"."+wardle, metav1.GetOptions{})
		if err != nil {
			return nil
		}
		return one
	}
	var v1 *apiregistration.APIService
	await(t, "v1 and v2", func() bool { v1 = find("v1"); return v1 != nil && find("v2") != nil })
	want := apiregistration.APIServiceSpec{Group: wardle, Version: "v1", GroupPriorityMinimum: 1000, VersionPriority: 100}
	if diff := cmp.Diff(want, v1.Spec); diff != "" || v1.Labels["kube-aggregator.kubernetes.io/automanaged"] != "true" || !helper.IsAPIServiceConditionTrue(v1, apiregistration.Available) {
		t.Errorf("%s\n%+v", diff, v1)
	}
	if find("v3") != nil {
		t.Error("a version that is not served has an APIService")
	}

	if err := services.Delete(t.Context(), v1.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, "v1 is back", func() bool { again := find("v1"); return again != nil && again.UID != v1.UID })
	if _, err := services.Patch(t.Context(), v1.Name, types.MergePatchType, []byte(`{"spec":{"versionPriority":7}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, "v1 is as it was", func() bool { return find("v1").Spec.VersionPriority == 100 })
	// Without the label it is its user's.
	if _, err := services.Patch(t.Context(), v1.Name, types.MergePatchType, []byte(`{"metadata":{"labels":null},"spec":{"versionPriority":7}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}

	if _, err := crds.Patch(t.Context(), crd.Name, types.JSONPatchType, []byte(`[{"op":"replace","path":"/spec/versions/1/served","value":false}]`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, "v2 is gone", func() bool { return find("v2") == nil })
	if err := crds.Delete(t.Context(), crd.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, "the definition is gone", func() bool {
		_, err := crds.Get(t.Context(), crd.Name, metav1.GetOptions{})
		return err != nil
	})
	if one := find("v1"); one == nil || one.Spec.VersionPriority != 7 {
		t.Errorf("what a user took over was changed: %+v", one)
	}
}

// TestAPIServicesOfBuiltinGroups: what is served has an APIService, corrected at each start, and only then; what is not
// served any more has none.
func TestAPIServicesOfBuiltinGroups(t *testing.T) {
	t.Parallel()
	db := memory.New()
	s := servertest.Start(t, servertest.Config{Database: db})
	services := newAggregatorClient(t, s).ApiregistrationV1().APIServices()
	patch := func(name, text string) {
		t.Helper()
		if _, err := services.Patch(t.Context(), name, types.MergePatchType, []byte(text), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	patch("v1.apps", `{"spec":{"versionPriority":7}}`)
	patch("v1.batch", `{"metadata":{"labels":{"kube-aggregator.kubernetes.io/automanaged":null}},"spec":{"versionPriority":7}}`)
	if err := services.Delete(t.Context(), "v1.policy", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	old := &apiregistration.APIService{
		ObjectMeta: metav1.ObjectMeta{Name: "v1beta9.apps", Labels: map[string]string{"kube-aggregator.kubernetes.io/automanaged": "onstart"}},
		Spec:       apiregistration.APIServiceSpec{Group: "apps", Version: "v1beta9", GroupPriorityMinimum: 100, VersionPriority: 1},
	}
	if _, err := services.Create(t.Context(), old, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	before, err := services.List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range before.Items {
		if one.Name == "v1.apps" && one.Spec.VersionPriority != 7 || one.Name == "v1.policy" {
			t.Errorf("corrected without a start: %+v", one)
		}
	}

	again := servertest.Start(t, servertest.Config{Database: db, Keys: s.Keys})
	after, err := newAggregatorClient(t, again).ApiregistrationV1().APIServices().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	priorities := map[string]int32{}
	for _, one := range after.Items {
		priorities[one.Name] = one.Spec.VersionPriority
	}
	if priorities["v1.apps"] == 7 || priorities["v1.batch"] != 7 || priorities["v1.policy"] == 0 || priorities["v1beta9.apps"] != 0 {
		t.Errorf("after a start: %v", priorities)
	}
}

// TestAPIServiceOfTheServerItself: a version that is said to be served by the Service kubernetes is nobody's, and no request
// goes around in circles, not even when somebody says that it is available.
func TestAPIServiceOfTheServerItself(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{Plane: withLoopback})
	client := newAggregatorClient(t, s)
	services := client.ApiregistrationV1().APIServices()
	service := wardleService("kubernetes", 443)
	if _, err := services.Create(t.Context(), service, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitAvailable(t, client, service.Name, apiregistration.ConditionFalse, "FailedDiscoveryCheck")
	lie := []byte(`{"status":{"conditions":[{"type":"Available","status":"True","reason":"Lie","message":"","lastTransitionTime":null}]}}`)
	if _, err := services.Patch(t.Context(), service.Name, types.MergePatchType, lie, metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	request := servertest.Request{Method: http.MethodGet, Path: wardlePath + "/flunders", Token: servertest.AdminToken}
	if resp := wire.Send(t, s.URL, request); resp.Status != http.StatusServiceUnavailable {
		t.Errorf("got %+v", resp)
	}
}
