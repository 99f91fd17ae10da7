package server_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rowlock-io/rowlock/schema/catalogue"
	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/filters"
	"github.com/rowlock-io/rowlock/server/servertest"
)

// flagValues are what TestProcessPages has for flags.
type flagValues map[string]string

func (f flagValues) GetFlagz() map[string]string { return f }

// TestProcessPages asks for what the process shows: only administrators get it, and only of the operator's cluster.
func TestProcessPages(t *testing.T) {
	t.Parallel()
	level := -1
	s := servertest.Start(t, servertest.Config{Clusters: []string{"a"}, Plane: func(c *controlplane.Config) {
		c.Process = controlplane.Process{Flags: flagValues{"bind-address": "here"}, SetVerbosity: func(l int) error {
			if l > 10 {
				return errors.New("too talkative")
			}
			level = l
			return nil
		}}
	}})
	structured := func(kind string) http.Header {
		return http.Header{"Accept": {"application/json;v=v1beta1;g=config.k8s.io;as=" + kind}}
	}
	for _, c := range []struct {
		cluster, method, path, token, body string
		header                             http.Header
		status                             int
		says                               string
	}{
		{path: "/flagz", token: servertest.AdminToken, status: 200, says: "bind-address"},
		{path: "/flagz", token: servertest.AdminToken, header: structured("Flagz"), status: 200, says: `"bind-address":"here"`},
		{path: "/flagz", token: servertest.AliceToken, status: 403},
		{path: "/statusz", token: servertest.AdminToken, status: 200, says: "1.36"},
		{path: "/statusz", token: servertest.AdminToken, header: structured("Statusz"), status: 200, says: `"kind":"Statusz"`},
		{path: "/statusz", token: servertest.AliceToken, status: 403},
		{path: "/debug/flags/v", method: "PUT", body: "4", token: servertest.AdminToken, status: 200, says: "successfully set klog.logging.verbosity to 4"},
		{path: "/debug/flags/v", method: "PUT", body: "11", token: servertest.AdminToken, status: 400, says: "too talkative"},
		{path: "/debug/flags/v", method: "PUT", body: "x", token: servertest.AdminToken, status: 400},
		{path: "/debug/flags/v", token: servertest.AdminToken, status: 406, says: "unsupported http method"},
		{path: "/debug/flags/v", method: "PUT", body: "5", token: servertest.AliceToken, status: 403},
		{path: "/debug/flags/", token: servertest.AdminToken, status: 200, says: "v"},
		{cluster: "a", path: "/flagz", token: servertest.AdminToken, status: 404},
		{cluster: "a", path: "/statusz", token: servertest.AdminToken, status: 404},
		{cluster: "a", path: "/debug/flags/v", method: "PUT", body: "6", token: servertest.AdminToken, status: 404},
	} {
		if c.cluster == "" {
			c.cluster = servertest.Default
		}
		if c.method == "" {
			c.method = "GET"
		}
		resp := wire.Send(t, s.Address(c.cluster), servertest.Request{Method: c.method, Path: c.path, Body: c.body, Header: c.header, Token: c.token})
		if resp.Status != c.status || !strings.Contains(resp.Body, c.says) {
			t.Errorf("%s %s in %s: %d %s, want %d %q", c.method, c.path, c.cluster, resp.Status, resp.Body, c.status, c.says)
		}
	}
	if level != 4 {
		t.Errorf("the verbosity is %d", level)
	}
}

// TestHints looks for what browsers and balanced clients are told.
func TestHints(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{Plane: func(c *controlplane.Config) {
		c.Hints = filters.Hints{Origins: []string{`^https://ui\.example$`}, HSTS: []string{"max-age=60", "preload"}, Goaway: 1}
	}})
	for _, c := range []struct {
		method, origin string
		status         int
		allowed        string
	}{
		{"GET", "https://ui.example", 200, "https://ui.example"},
		{"OPTIONS", "https://ui.example", 204, "https://ui.example"},
		{"GET", "https://ui.example.evil", 200, ""},
		{"GET", "", 200, ""},
	} {
		header := http.Header{}
		if c.origin != "" {
			header.Set("Origin", c.origin)
		}
		resp := wire.Send(t, s.URL, servertest.Request{Method: c.method, Path: "/version", Header: header, Token: servertest.AdminToken})
		if resp.Status != c.status || resp.Header.Get("Access-Control-Allow-Origin") != c.allowed {
			t.Errorf("%s from %q: %d %v", c.method, c.origin, resp.Status, resp.Header)
		}
		if got := resp.Header.Get("Strict-Transport-Security"); got != "max-age=60; preload" {
			t.Errorf("%s from %q: Strict-Transport-Security is %q", c.method, c.origin, got)
		}
	}
}

// TestVersionsOnRequest switches everything on that is off by default.
func TestVersionsOnRequest(t *testing.T) {
	t.Parallel()
	all, err := catalogue.NewVersions(map[string]string{"api/all": "true", "storage.k8s.io/v1alpha1": "false"})
	if err != nil {
		t.Fatal(err)
	}
	s := servertest.Start(t, servertest.Config{Plane: func(c *controlplane.Config) { c.Versions = all }})
	groups, err := s.Client(t, servertest.Default).Discovery().ServerGroups()
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, g := range groups.Groups {
		for _, v := range g.Versions {
			have = append(have, v.GroupVersion)
		}
	}
	for _, gv := range []string{"admissionregistration.k8s.io/v1beta1", "networking.k8s.io/v1beta1", "resource.k8s.io/v1beta1"} {
		if !slices.Contains(have, gv) {
			t.Errorf("%s is not served: %v", gv, have)
		}
	}
	if slices.Contains(have, "storage.k8s.io/v1alpha1") {
		t.Errorf("storage.k8s.io/v1alpha1 is served: %v", have)
	}
	const path = "/apis/admissionregistration.k8s.io/v1beta1/validatingadmissionpolicies"
	resp := wire.Send(t, s.URL, servertest.Request{
		Method: "POST", Path: path, Token: servertest.AdminToken, Header: http.Header{"Content-Type": {"application/json"}},
		Body: `{"metadata":{"name":"p"},"spec":{"matchConstraints":{"resourceRules":[{"apiGroups":[""],"apiVersions":["v1"],"operations":["CREATE"],"resources":["pods"]}]},"validations":[{"expression":"true"}]}}`,
	})
	if resp.Status != 201 || !strings.Contains(resp.Body, `"apiVersion":"admissionregistration.k8s.io/v1beta1"`) {
		t.Errorf("%d %s", resp.Status, resp.Body)
	}
	policy, err := s.Client(t, servertest.Default).AdmissionregistrationV1().ValidatingAdmissionPolicies().Get(t.Context(), "p", metav1.GetOptions{})
	if err != nil || *policy.Spec.FailurePolicy != admissionregistrationv1.Fail {
		t.Errorf("%v %v", policy, err)
	}
	var doc struct{ Paths map[string]any }
	described := wire.Send(t, s.URL, servertest.Request{Method: "GET", Path: "/openapi/v3/apis/admissionregistration.k8s.io/v1beta1", Token: servertest.AdminToken})
	if err := json.Unmarshal([]byte(described.Body), &doc); err != nil || doc.Paths[path] == nil {
		t.Errorf("OpenAPI: %d %v", described.Status, err)
	}
	await(t, "APIServices of all versions are available", func() bool {
		resp := wire.Send(t, s.URL, servertest.Request{Method: "GET", Path: "/apis/apiregistration.k8s.io/v1/apiservices", Token: servertest.AdminToken})
		return resp.Status == 200 && strings.Contains(resp.Body, `"name":"v1beta1.admissionregistration.k8s.io"`)
	})
}

// TestWrongVersions are settings of --runtime-config that cannot be meant.
func TestWrongVersions(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string]string{
		"api/all=false":                "invalid runtime-config with only api/all=false",
		"nope.example/v1=true":         "unknown api groups nope.example/v1",
		"apps/v9=true":                 "group version apps/v9 that has not been registered",
		"api/beta=maybe":               "invalid value api/beta=maybe",
		"apps/v1=false":                "apps/v1 cannot be switched off: the server's own parts use the stable versions",
		"api/v1=false":                 "v1 cannot be switched off: the server's own parts use the stable versions",
		"apps/v1/deployments=false":    "apps/v1, Resource=deployments cannot be switched off: the server's own parts use the stable versions",
		"storage.k8s.io/v1beta1=false": "",
	} {
		key, value, _ := strings.Cut(setting, "=")
		_, err := catalogue.NewVersions(map[string]string{key: value})
		if got := errorText(err); got != want {
			t.Errorf("%s: %q, want %q", setting, got, want)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
