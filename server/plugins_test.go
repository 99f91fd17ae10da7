package server_test

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	imagepolicy "k8s.io/api/imagepolicy/v1alpha1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/kubernetes/pkg/kubeapiserver/options"

	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/servertest"
	"github.com/rowlock-io/rowlock/storage/memory"
)

// pluginConfig configures all plug-ins that take a configuration; %s is the kubeconfig of the one that judges images.
const pluginConfig = `
apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: ImagePolicyWebhook
  configuration: {imagePolicy: {kubeConfigFile: %s, allowTTL: 1, denyTTL: 1, retryBackoff: 500, defaultAllow: false}}
- name: EventRateLimit
  configuration:
    apiVersion: eventratelimit.admission.k8s.io/v1alpha1
    kind: Configuration
    limits: [{type: Namespace, qps: 1, burst: 3, cacheSize: 100}]
- name: PodNodeSelector
  configuration: {podNodeSelectorPluginConfig: {clusterDefaultNodeSelector: "zone=a"}}
- name: PodTolerationRestriction
  configuration:
    apiVersion: podtolerationrestriction.admission.k8s.io/v1alpha1
    kind: Configuration
    default: [{key: from-config, operator: Exists}]
- name: PodSecurity
  configuration:
    apiVersion: pod-security.admission.config.k8s.io/v1
    kind: PodSecurityConfiguration
    defaults: {enforce: baseline, enforce-version: latest}
    exemptions: {namespaces: [exempt]}
- name: ResourceQuota
  configuration:
    apiVersion: apiserver.config.k8s.io/v1
    kind: ResourceQuotaConfiguration
    limitedResources: [{resource: persistentvolumeclaims, matchContains: [requests.storage]}]
- name: ValidatingAdmissionWebhook
  configuration: {apiVersion: apiserver.config.k8s.io/v1, kind: WebhookAdmissionConfiguration, kubeConfigFile: %[1]s}
`

// judge starts a server that judges images: those whose names say evil are refused. It returns a kubeconfig for it.
func judge(t *testing.T) string {
	t.Helper()
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var review imagepolicy.ImageReview
		_ = json.NewDecoder(req.Body).Decode(&review)
		review.Status.Allowed = true
		for _, c := range review.Spec.Containers {
			if strings.Contains(c.Image, "evil") {
				review.Status = imagepolicy.ImageReviewStatus{Reason: "evil image"}
			}
		}
		_ = json.NewEncoder(w).Encode(review)
	}))
	t.Cleanup(s.Close)
	ca := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	path := filepath.Join(t.TempDir(), "judge.kubeconfig")
	writeFile(t, path, fmt.Sprintf(`
apiVersion: v1
kind: Config
clusters: [{name: judge, cluster: {server: %q, certificate-authority-data: %s}}]
users: [{name: us, user: {token: t}}]
contexts: [{name: c, context: {cluster: judge, user: us}}]
current-context: c
`, s.URL, ca))
	return path
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// everyPlugin is a server on which all plug-ins run, but the one that refuses everything.
func everyPlugin(t *testing.T) *servertest.Server {
	t.Helper()
	path := filepath.Join(t.TempDir(), "admission.yaml")
	writeFile(t, path, fmt.Sprintf(pluginConfig, judge(t)))
	return servertest.Start(t, servertest.Config{Plane: func(cfg *controlplane.Config) {
		for _, name := range options.AllOrderedPlugins {
			if name != "AlwaysDeny" {
				cfg.Admission.Enable = append(cfg.Admission.Enable, name)
			}
		}
		cfg.Admission.ConfigFile = path
	}})
}

func newPod(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "image:1"}}}}
	for _, f := range change {
		f(p)
	}
	return p
}

func createPod(t *testing.T, client kubernetes.Interface, namespace string, p *corev1.Pod) (*corev1.Pod, error) {
	t.Helper()
	return client.CoreV1().Pods(namespace).Create(t.Context(), p, metav1.CreateOptions{})
}

func TestPluginsAreConfigured(t *testing.T) {
	t.Parallel()
	client := everyPlugin(t).Client(t, servertest.Default)
	newNamespace(t, client, "some", nil)
	newNamespace(t, client, "exempt", nil)
	p, err := createPod(t, client, "some", newPod("plain"))
	if err != nil {
		t.Fatal(err)
	}
	if p.Spec.NodeSelector["zone"] != "a" || p.Spec.Containers[0].ImagePullPolicy != corev1.PullAlways {
		t.Errorf("node selector %v, pull policy %s", p.Spec.NodeSelector, p.Spec.Containers[0].ImagePullPolicy)
	}
	if !strings.Contains(fmt.Sprint(p.Spec.Tolerations), "from-config") {
		t.Errorf("tolerations %v", p.Spec.Tolerations)
	}
	_, err = createPod(t, client, "some", newPod("evil", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "evil:1" }))
	wantDenied(t, err, "image policy webhook backend denied one or more images: evil image")

	privileged := func(p *corev1.Pod) { p.Spec.HostNetwork = true }
	_, err = createPod(t, client, "some", newPod("host", privileged))
	wantDenied(t, err, `violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)`)
	_, err = createPod(t, client, "exempt", newPod("host", privileged))
	if err != nil {
		t.Error(err)
	}
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{"storage": quantity("1Gi")}},
	}}
	_, err = client.CoreV1().PersistentVolumeClaims("some").Create(t.Context(), claim, metav1.CreateOptions{})
	wantDenied(t, err, "insufficient quota to consume: requests.storage")

	_, err = createPod(t, client, "made-for-it", newPod("first")) // NamespaceAutoProvision; the service account is missing yet
	if _, gone := client.CoreV1().Namespaces().Get(t.Context(), "made-for-it", metav1.GetOptions{}); gone != nil {
		t.Errorf("no namespace was made: %v, %v", gone, err)
	}
	var last error
	for i := range 5 {
		_, last = client.CoreV1().Events("some").Create(t.Context(), &corev1.Event{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("e", i)}, InvolvedObject: corev1.ObjectReference{Namespace: "some"},
		}, metav1.CreateOptions{})
	}
	if !apierrors.IsTooManyRequests(last) {
		t.Errorf("the fifth event at once: %v", last)
	}
}

func TestWrongPluginConfigurationStopsTheStart(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ config, words string }{
		"kind":           {"apiVersion: apiserver.config.k8s.io/v1\nkind: Nothing\n", `no kind "Nothing" is registered`},
		"field":          {"apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugin: []\n", `unknown field "plugin"`},
		"of the webhook": {plugin("ValidatingAdmissionWebhook", "{apiVersion: apiserver.config.k8s.io/v1, kind: WebhookAdmissionConfiguration, kubeConfigFile: relative}"), "must be an absolute file path"},
		"no kubeconfig":  {plugin("MutatingAdmissionWebhook", "{apiVersion: apiserver.config.k8s.io/v1, kind: WebhookAdmissionConfiguration, kubeConfigFile: /nowhere}"), "/nowhere"},
		"pod security":   {plugin("PodSecurity", "{apiVersion: pod-security.admission.config.k8s.io/v1, kind: PodSecurityConfiguration, defaults: {enforce: strict}}"), "must be one of"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "admission.yaml")
			writeFile(t, path, c.config)
			s, err := servertest.Open(t.Context(), t.TempDir(), servertest.Config{
				Database: memory.New(), Plane: func(cfg *controlplane.Config) { cfg.Admission.ConfigFile = path },
			})
			if err == nil {
				t.Error(s.Stop())
			}
			wantDenied(t, err, c.words)
		})
	}
}

func plugin(name, config string) string {
	return "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins: [{name: " + name + ", configuration: " + config + "}]\n"
}

// Warnings tell of what a level would refuse, also of templates, which are never refused.
func TestPodSecurityLevels(t *testing.T) {
	t.Parallel()
	client := shared.Client(t, servertest.Default)
	newNamespace(t, client, "levels", map[string]string{
		"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "restricted", "pod-security.kubernetes.io/warn-version": "v1.30",
	})
	_, err := createPod(t, client, "levels", newPod("host", func(p *corev1.Pod) { p.Spec.HostPID = true }))
	wantDenied(t, err, `pods "host" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostPID=true)`)
	for path, body := range map[string]string{
		"/api/v1/namespaces/levels/pods":              `{"metadata":{"name":"lax"},"spec":{"containers":[{"name":"c","image":"i"}]}}`,
		"/apis/apps/v1/namespaces/levels/deployments": `{"metadata":{"name":"lax"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"hostPID":true,"containers":[{"name":"c","image":"i"}]}}}}`,
	} {
		resp := wire.Send(t, shared.URL, servertest.Request{
			Method: "POST", Path: path, Token: servertest.AdminToken, Header: http.Header{"Content-Type": {"application/json"}}, Body: body,
		})
		if got := resp.Header.Get("Warning"); resp.Status != 201 || !strings.HasPrefix(got, `299 - "would violate PodSecurity \"restricted:v1.30\": `) {
			t.Errorf("%s: status %d, warning %q", path, resp.Status, got)
		}
	}
}

func TestLimitRange(t *testing.T) {
	t.Parallel()
	client := shared.Client(t, servertest.Default)
	newNamespace(t, client, "ranged", nil)
	must[any](t)(client.CoreV1().LimitRanges("ranged").Create(t.Context(), parse[corev1.LimitRange](t, `
metadata: {name: r}
spec:
  limits:
  - {type: Container, max: {cpu: 2}, min: {cpu: 100m}, default: {cpu: 1}, defaultRequest: {cpu: 500m}, maxLimitRequestRatio: {cpu: 4}}
  - {type: Pod, max: {cpu: 3}}
  - {type: PersistentVolumeClaim, max: {storage: 1Gi}}
`), metav1.CreateOptions{}))
	with := func(cpu ...string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Containers = nil
			for i, c := range cpu {
				p.Spec.Containers = append(p.Spec.Containers, corev1.Container{
					Name: fmt.Sprint("c", i), Image: "i", Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{"cpu": quantity(c)}},
				})
			}
		}
	}
	var err error
	await(t, "the range is in force", func() bool {
		_, err = client.CoreV1().Pods("ranged").Create(t.Context(), newPod("dry", with("4")), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err != nil
	})
	wantDenied(t, err, "maximum cpu usage per Container is 2, but limit is 4")
	_, err = createPod(t, client, "ranged", newPod("sum", with("2", "2")))
	wantDenied(t, err, "maximum cpu usage per Pod is 3, but limit is 4")
	p := must[*corev1.Pod](t)(createPod(t, client, "ranged", newPod("plain")))
	r := p.Spec.Containers[0].Resources
	if r.Limits.Cpu().String() != "1" || r.Requests.Cpu().String() != "500m" {
		t.Errorf("defaults are %v", r)
	}
}
