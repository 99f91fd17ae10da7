package server_test

import (
	"compress/gzip"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/rowlock-io/rowlock/server/servertest"
)

// defaultObjects are kinds with the path of all their objects; the recorded facts are by kind.
var defaultObjects = map[string]string{
	"apiservices":                 "/apis/apiregistration.k8s.io/v1/apiservices",
	"clusterrolebindings":         "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
	"clusterroles":                "/apis/rbac.authorization.k8s.io/v1/clusterroles",
	"configmaps":                  "/api/v1/configmaps",
	"endpointslices":              "/apis/discovery.k8s.io/v1/endpointslices",
	"flowschemas":                 "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas",
	"ipaddresses":                 "/apis/networking.k8s.io/v1/ipaddresses",
	"namespaces":                  "/api/v1/namespaces",
	"priorityclasses":             "/apis/scheduling.k8s.io/v1/priorityclasses",
	"prioritylevelconfigurations": "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations",
	"rolebindings":                "/apis/rbac.authorization.k8s.io/v1/rolebindings",
	"roles":                       "/apis/rbac.authorization.k8s.io/v1/roles",
	"servicecidrs":                "/apis/networking.k8s.io/v1/servicecidrs",
	"services":                    "/api/v1/services",
}

// adapt changes the facts where the recorded server was started with other flags than the test's, or in another way.
func adapt(kind string, objects map[string]map[string]any) {
	set := func(name string, value any, fields ...string) {
		if err := unstructured.SetNestedField(objects[name], value, fields...); err != nil {
			panic(err)
		}
	}
	switch kind {
	case "servicecidrs":
		set("kubernetes", []any{"10.96.0.0/12"}, "spec", "cidrs")
	case "endpointslices":
		delete(objects, "default/kubernetes") // a server on loopback has no endpoint
	case "clusterroles": // the recorded server had no controller manager, which fills roles there
		for _, o := range objects {
			aggregate(o, objects)
		}
	case "configmaps": // what aggregated servers trust: the recorded server had no client authority
		objects["kube-system/extension-apiserver-authentication"] = nil
	}
}

// aggregate fills a ClusterRole, and first those it gets rules from, as its aggregationRule says.
func aggregate(role map[string]any, all map[string]map[string]any) {
	selectors, _, _ := unstructured.NestedSlice(role, "aggregationRule", "clusterRoleSelectors")
	var rules []any
	for _, selector := range selectors {
		want := labels.SelectorFromSet((&unstructured.Unstructured{Object: map[string]any{
			"metadata": map[string]any{"labels": selector.(map[string]any)["matchLabels"]},
		}}).GetLabels())
		for _, name := range slices.Sorted(maps.Keys(all)) {
			if !want.Matches(labels.Set((&unstructured.Unstructured{Object: all[name]}).GetLabels())) {
				continue
			}
			aggregate(all[name], all)
			more, _, _ := unstructured.NestedSlice(all[name], "rules")
			for _, rule := range more {
				if !slices.ContainsFunc(rules, func(r any) bool { return cmp.Equal(r, rule) }) {
					rules = append(rules, rule)
				}
			}
		}
	}
	if len(selectors) > 0 {
		role["rules"] = rules
	}
}

// ownObjects are those that other clusters have from kubeadm and the like: by them machines join.
var ownObjects = map[string][]string{
	"clusterrolebindings": {
		"rowlock:bootstrap-nodes", "rowlock:approve-new-nodes", "rowlock:approve-renewals-of-nodes", "rowlock:reach-nodes",
		"rowlock:approve-serving-certificates-of-nodes",
	},
	"configmaps":   {"kube-public/cluster-info"},
	"roles":        {"kube-public/rowlock:read-cluster-info", "kube-node-lease/rowlock:read-pod-networks"},
	"rolebindings": {"kube-public/rowlock:read-cluster-info", "kube-node-lease/rowlock:read-pod-networks"},
}

func TestDefaultObjects(t *testing.T) {
	t.Parallel()
	server := servertest.Start(t, servertest.Config{})
	f, err := os.Open("testdata/objects.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var facts map[string]map[string]map[string]any
	if err := json.NewDecoder(z).Decode(&facts); err != nil {
		t.Fatal(err)
	}
	if want, have := slices.Sorted(maps.Keys(facts)), slices.Sorted(maps.Keys(defaultObjects)); !slices.Equal(want, have) {
		t.Fatalf("facts of %v, paths of %v", want, have)
	}
	for kind, want := range facts {
		adapt(kind, want)
		if kind == "clusterroles" {
			await(t, "ClusterRoles are aggregated", func() bool {
				return cmp.Equal(list(t, server, defaultObjects[kind])["admin"]["rules"], want["admin"]["rules"])
			})
		}
		have := list(t, server, defaultObjects[kind])
		if kind == "flowschemas" { // whether their level exists is written a moment after they are there
			await(t, "flow schemas have conditions", func() bool {
				have = list(t, server, defaultObjects[kind])
				for _, o := range have {
					if conditions, _, _ := unstructured.NestedSlice(o, "status", "conditions"); len(conditions) == 0 {
						return false
					}
				}
				return true
			})
		}
		for name, object := range want {
			if object == nil { // only that it is there
				if _, ok := have[name]; !ok {
					t.Errorf("%s %s: missing", kind, name)
				}
				delete(have, name)
				continue
			}
			blank(kind, object)
			blank(kind, have[name])
			if d := cmp.Diff(object, have[name]); d != "" {
				t.Errorf("%s %s: %s", kind, name, d)
			}
			delete(have, name)
		}
		for _, name := range ownObjects[kind] {
			if _, ok := have[name]; !ok {
				t.Errorf("%s %s: missing", kind, name)
			}
			delete(have, name)
		}
		for name := range have {
			t.Errorf("%s %s: in excess", kind, name)
		}
	}
}

// list gets all objects of a path by namespace and name.
func list(t *testing.T, server *servertest.Server, path string) map[string]map[string]any {
	t.Helper()
	resp := wire.Send(t, server.URL, servertest.Request{Method: "GET", Path: path, Token: servertest.AdminToken})
	if resp.Status != 200 {
		t.Fatalf("GET %s: %d %s", path, resp.Status, resp.Body)
	}
	var all struct {
		Kind, APIVersion string
		Items            []map[string]any
	}
	if err := json.Unmarshal([]byte(resp.Body), &all); err != nil {
		t.Fatal(err)
	}
	objects := map[string]map[string]any{}
	for _, item := range all.Items {
		u := unstructured.Unstructured{Object: item}
		u.SetAPIVersion(all.APIVersion)
		u.SetKind(all.Kind[:len(all.Kind)-len("List")])
		name := u.GetName()
		if ns := u.GetNamespace(); ns != "" {
			name = ns + "/" + name
		}
		objects[name] = item
	}
	return objects
}

// blank removes what differs from start to start.
func blank(kind string, object map[string]any) {
	for _, field := range []string{"uid", "resourceVersion", "creationTimestamp", "managedFields", "generation", "annotations"} {
		if field == "annotations" && kind != "flowschemas" {
			continue
		}
		unstructured.RemoveNestedField(object, "metadata", field)
	}
	switch kind {
	case "configmaps":
		unstructured.RemoveNestedField(object, "data", "since") // a date
	case "services":
		removeTargetPort(object)
	}
	conditions, _, _ := unstructured.NestedSlice(object, "status", "conditions")
	for _, c := range conditions {
		delete(c.(map[string]any), "lastTransitionTime")
	}
	if conditions != nil {
		_ = unstructured.SetNestedSlice(object, conditions, "status", "conditions")
	}
}

// removeTargetPort drops the port that the server listens on.
func removeTargetPort(object map[string]any) {
	ports, _, _ := unstructured.NestedSlice(object, "spec", "ports")
	for _, p := range ports {
		delete(p.(map[string]any), "targetPort")
	}
	if ports != nil {
		_ = unstructured.SetNestedSlice(object, ports, "spec", "ports")
	}
}
