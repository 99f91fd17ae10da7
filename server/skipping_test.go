package server_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/servertest"
	"github.com/rowlock-io/rowlock/storage/memory"
)

// ways are those in which an ephemeral container gets into a pod.
var ways = map[string]func(*testing.T, kubernetes.Interface, *corev1.Pod, corev1.EphemeralContainer) (*corev1.Pod, error){
	"update": func(t *testing.T, client kubernetes.Interface, p *corev1.Pod, c corev1.EphemeralContainer) (*corev1.Pod, error) {
		p = p.DeepCopy()
		p.Spec.EphemeralContainers = append(p.Spec.EphemeralContainers, c)
		return client.CoreV1().Pods(p.Namespace).UpdateEphemeralContainers(t.Context(), p.Name, p, metav1.UpdateOptions{})
	},
	"strategic patch": patchEphemeral(types.StrategicMergePatchType, `{"spec":{"ephemeralContainers":[%s]}}`),
	"merge patch":     patchEphemeral(types.MergePatchType, `{"spec":{"ephemeralContainers":[%s]}}`),
	"JSON patch":      patchEphemeral(types.JSONPatchType, `[{"op":"add","path":"/spec/ephemeralContainers","value":[%s]}]`),
	"apply":           patchEphemeral(types.ApplyPatchType, `{"apiVersion":"v1","kind":"Pod","spec":{"ephemeralContainers":[%s]}}`),
}

func patchEphemeral(kind types.PatchType, patch string) func(*testing.T, kubernetes.Interface, *corev1.Pod, corev1.EphemeralContainer) (*corev1.Pod, error) {
	return func(t *testing.T, client kubernetes.Interface, p *corev1.Pod, c corev1.EphemeralContainer) (*corev1.Pod, error) {
		body, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		opts := metav1.PatchOptions{}
		if kind == types.ApplyPatchType {
			opts.FieldManager = "test"
		}
		return client.CoreV1().Pods(p.Namespace).Patch(t.Context(), p.Name, kind, fmt.Appendf(nil, patch, body), opts, "ephemeralcontainers")
	}
}

// forbidden are containers that a plug-in must refuse, wherever in a pod they are.
var forbidden = map[string]struct {
	container corev1.Container
	words     string
}{
	"PodSecurity":        {corev1.Container{SecurityContext: &corev1.SecurityContext{Privileged: ptr(true)}}, `violates PodSecurity "baseline:latest": privileged`},
	"ImagePolicyWebhook": {corev1.Container{Image: "evil:1"}, "denied one or more images: evil image"},
	"ServiceAccount": {
		corev1.Container{Env: []corev1.EnvVar{{Name: "E", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: "others"}, Key: "k",
		}}}}},
		"because service account default does not reference that secret",
	},
	"ServiceAccount, whole secrets": {
		corev1.Container{EnvFrom: []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "others"}}}}},
		"because service account default does not reference that secret",
	},
}

func (c container) named(name string) corev1.Container {
	got := corev1.Container(c)
	got.Name = name
	if got.Image == "" {
		got.Image = "image:1"
	}
	return got
}

type container corev1.Container

func ephemeral(c corev1.Container) corev1.EphemeralContainer {
	return corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
		Name: c.Name, Image: c.Image, Env: c.Env, EnvFrom: c.EnvFrom, SecurityContext: c.SecurityContext, ImagePullPolicy: c.ImagePullPolicy,
	}}
}

// CVE-2023-2431, CVE-2023-2727, CVE-2023-2728 and their like: plug-ins that look at containers have to look at all kinds
// of them, however they come.
func TestInitAndEphemeralContainersDoNotSkipAdmission(t *testing.T) {
	t.Parallel()
	client := everyPlugin(t).Client(t, servertest.Default)
	newNamespace(t, client, "guarded", nil)
	account := must[*corev1.ServiceAccount](t)(client.CoreV1().ServiceAccounts("guarded").Get(t.Context(), "default", metav1.GetOptions{}))
	account.Annotations = map[string]string{"kubernetes.io/enforce-mountable-secrets": "true"}
	must[any](t)(client.CoreV1().ServiceAccounts("guarded").Update(t.Context(), account, metav1.UpdateOptions{}))
	await(t, "the annotation is known", func() bool {
		_, err := client.CoreV1().Pods("guarded").Create(t.Context(), newPod("dry", func(p *corev1.Pod) {
			p.Spec.Containers[0] = container(forbidden["ServiceAccount"].container).named("c")
		}), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err != nil
	})
	for name, f := range forbidden {
		_, err := createPod(t, client, "guarded", newPod("plain", func(p *corev1.Pod) { p.Spec.Containers[0] = container(f.container).named("c") }))
		wantDenied(t, err, f.words)
		_, err = createPod(t, client, "guarded", newPod("init", func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{container(f.container).named("i")}
		}))
		wantDenied(t, err, f.words)
		for way, add := range ways {
			p := must[*corev1.Pod](t)(createPod(t, client, "guarded", newPod("pod-"+strings.ToLower(strings.NewReplacer(" ", "-", ",", "").Replace(name+"-"+way)))))
			got, err := add(t, client, p, ephemeral(container(f.container).named("e")))
			if err == nil {
				t.Errorf("%s by %s: let pass: %v", name, way, got.Spec.EphemeralContainers)
				continue
			}
			wantDenied(t, err, f.words)
		}
	}
	for way, add := range ways {
		p := must[*corev1.Pod](t)(createPod(t, client, "guarded", newPod("pull-"+strings.ToLower(strings.ReplaceAll(way, " ", "-")), func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "i", Image: "image:1", ImagePullPolicy: corev1.PullNever}}
		})))
		if got := p.Spec.InitContainers[0].ImagePullPolicy; got != corev1.PullAlways {
			t.Errorf("init container: pull policy %s", got)
		}
		with, err := add(t, client, p, ephemeral(corev1.Container{Name: "e", Image: "image:1", ImagePullPolicy: corev1.PullNever}))
		if err != nil {
			t.Fatal(err)
		}
		if got := with.Spec.EphemeralContainers[0].ImagePullPolicy; got != corev1.PullAlways {
			t.Errorf("ephemeral container by %s: pull policy %s", way, got)
		}
	}
}

// What a pod may not be created with may not come in later, by an update or by a resize.
func TestUpdatesDoNotSkipAdmission(t *testing.T) {
	t.Parallel()
	client := everyPlugin(t).Client(t, servertest.Default)
	newNamespace(t, client, "later", nil)
	p := must[*corev1.Pod](t)(createPod(t, client, "later", newPod("pod")))
	for name, c := range map[string]struct{ body, sub, words string }{
		"image":  {`{"spec":{"containers":[{"name":"c","image":"evil:1"}]}}`, "", "image policy webhook backend denied one or more images: evil image"},
		"resize": {`{"spec":{"containers":[{"name":"c","securityContext":{"privileged":true}}]}}`, "resize", ""},
		"status": {`{"spec":{"hostNetwork":true,"containers":[{"name":"c","image":"evil:1"}]}}`, "status", ""},
	} {
		var subs []string
		if c.sub != "" {
			subs = append(subs, c.sub)
		}
		_, err := client.CoreV1().Pods("later").Patch(t.Context(), p.Name, types.StrategicMergePatchType, []byte(c.body), metav1.PatchOptions{}, subs...)
		if c.words == "" {
			allowed(t, name, err) // what is not this subresource's is dropped
		} else {
			wantDenied(t, err, c.words)
		}
		now := must[*corev1.Pod](t)(client.CoreV1().Pods("later").Get(t.Context(), p.Name, metav1.GetOptions{}))
		if diff := cmp.Diff(p.Spec, now.Spec); diff != "" {
			t.Errorf("%s (%v): %s", name, err, diff)
		}
	}
}

func TestExternalIPsAreDeniedByDefault(t *testing.T) {
	t.Parallel()
	db := memory.New()
	service := func(name string, ips ...string) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}, ExternalIPs: ips}}
	}
	allowing, err := servertest.Open(t.Context(), t.TempDir(), servertest.Config{Database: db, Plane: func(cfg *controlplane.Config) {
		cfg.Admission.Disable = []string{"DenyServiceExternalIPs"}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := createAny(t, allowing.Client(t, servertest.Default), "default", service("old", "192.0.2.1", "192.0.2.2")); err != nil {
		t.Error(err)
	}
	if err := allowing.Stop(); err != nil {
		t.Fatal(err)
	}
	client := servertest.Start(t, servertest.Config{Database: db, Keys: allowing.Keys}).Client(t, servertest.Default)
	wantDenied(t, createAny(t, client, "default", service("new", "192.0.2.1")), "Use of external IPs is denied by admission control")
	if err := createAny(t, client, "default", service("plain")); err != nil {
		t.Error(err)
	}
	patch := func(name, body string) error {
		_, err := client.CoreV1().Services("default").Patch(t.Context(), name, types.MergePatchType, []byte(body), metav1.PatchOptions{})
		return err
	}
	wantDenied(t, patch("plain", `{"spec":{"externalIPs":["192.0.2.1"]}}`), "Use of external IPs is denied by admission control")
	wantDenied(t, patch("old", `{"spec":{"externalIPs":["192.0.2.1","192.0.2.3"]}}`), "Use of external IPs is denied by admission control")
	for _, body := range []string{`{"metadata":{"labels":{"a":"b"}}}`, `{"spec":{"externalIPs":["192.0.2.2"]}}`} {
		if err := patch("old", body); err != nil {
			t.Error(err)
		}
	}
}

// A webhook for all subresources sees every one of them, and what it refuses does not happen.
func TestSubresourcesDoNotSkipAdmission(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, localHooks())
	client := s.Client(t, servertest.Default)
	newNamespace(t, client, "subs", nil)
	must[any](t)(createPod(t, client, "subs", newPod("p")))
	must[any](t)(client.AppsV1().Deployments("subs").Create(t.Context(), parse[appsv1.Deployment](t, webDeployment), metav1.CreateOptions{}))
	must[any](t)(client.CoreV1().Services("subs").Create(t.Context(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}, metav1.CreateOptions{}))
	h := newHook(t, func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		return &admissionv1.AdmissionResponse{}
	})
	hook := validatingHook(h.client(), rulesFor("*", "*", "*/*"))
	hook.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": "subs"}}
	createValidating(t, client, hook)
	const core, apps = "/api/v1/namespaces/subs", "/apis/apps/v1/namespaces/subs"
	for _, c := range []struct{ method, path, body, want string }{
		{"PATCH", core + "/pods/p/status", `{"status":{"message":"m"}}`, "UPDATE pods/status"},
		{"PATCH", core + "/pods/p/resize", `{"spec":{"containers":[{"name":"c","resources":{}}]}}`, "UPDATE pods/resize"},
		{"PATCH", core + "/pods/p/ephemeralcontainers", `{"spec":{"ephemeralContainers":[{"name":"e","image":"i"}]}}`, "UPDATE pods/ephemeralcontainers"},
		{"POST", core + "/pods/p/binding", `{"apiVersion":"v1","kind":"Binding","metadata":{"name":"p"},"target":{"kind":"Node","name":"n"}}`, "CREATE pods/binding"},
		{"POST", core + "/pods/p/eviction", `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"p"}}`, "CREATE pods/eviction"},
		{"POST", core + "/pods/p/exec?command=ls&stdout=true", ``, "CONNECT pods/exec"},
		{"GET", core + "/pods/p/attach?stdout=true", ``, "CONNECT pods/attach"},
		{"GET", core + "/pods/p/portforward", ``, "CONNECT pods/portforward"},
		{"GET", core + "/pods/p/proxy/", ``, "CONNECT pods/proxy"},
		{"GET", core + "/services/s/proxy/x", ``, "CONNECT services/proxy"},
		{"POST", core + "/serviceaccounts/default/token", `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"audiences":["a"]}}`, "CREATE serviceaccounts/token"},
		{"PATCH", core + "/services/s/status", `{"status":{"loadBalancer":{}}}`, "UPDATE services/status"},
		{"PATCH", apps + "/deployments/web/scale", `{"spec":{"replicas":3}}`, "UPDATE deployments/scale"},
		{"PATCH", apps + "/deployments/web/status", `{"status":{"replicas":3}}`, "UPDATE deployments/status"},
		{"PUT", core + "/finalize", `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"subs"},"spec":{"finalizers":[]}}`, "UPDATE namespaces/finalize"},
		{"PATCH", core + "/status", `{"status":{"phase":"Active"}}`, "UPDATE namespaces/status"},
	} {
		before := len(h.requests())
		kind := "application/json"
		if c.method == "PATCH" {
			kind = string(types.StrategicMergePatchType)
		}
		resp := wire.Send(t, s.URL, servertest.Request{Method: c.method, Path: c.path, Token: servertest.AdminToken, Header: map[string][]string{"Content-Type": {kind}}, Body: c.body})
		if resp.Status < 400 || !strings.Contains(resp.Body, "denied the request") {
			t.Errorf("%s %s answers %d %s", c.method, c.path, resp.Status, resp.Body)
		}
		// A selector of namespaces does not keep away what is in none: the server's own writes of statuses.
		asked := slices.DeleteFunc(h.requests()[before:], func(r admissionv1.AdmissionRequest) bool { return r.Namespace != "subs" })
		if len(asked) != 1 {
			t.Errorf("%s %s: asked %d times", c.method, c.path, len(asked))
			continue
		}
		if got := fmt.Sprintf("%s %s/%s", asked[0].Operation, asked[0].RequestResource.Resource, asked[0].RequestSubResource); got != c.want {
			t.Errorf("asked about %s, want %s", got, c.want)
		}
	}
}
