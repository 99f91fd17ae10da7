package server_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistration "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/rowlock-io/rowlock/server/servertest"
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
