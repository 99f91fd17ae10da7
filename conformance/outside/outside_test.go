package outside_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// TestOutside runs a controller manager and a scheduler as the users that upstream has for them, against a server in which
// nothing acts.
func TestOutside(t *testing.T) {
	t.Parallel()
	harness.Only(t, func(t *testing.T, target harness.Target) {
		for name, programs := range map[string]func(testing.TB) harness.Programs{
			"stock": harness.Stock, "subcommands": harness.Subcommands,
		} {
			t.Run(name, func(t *testing.T) {
				cluster := target.NewCluster(t)
				server := cluster.StartServer(t)
				identity := cluster.ExportIdentity(t, server)
				started := cluster.StartOutside(t, programs(t), identity)
				cluster.Simulate(t, server.Kubeconfig, 2)
				e := env{server.Client(t), server.Config(t), identity}

				t.Run("serving", func(t *testing.T) { e.serving(t, started) })
				t.Run("acting", func(t *testing.T) {
					for name, f := range map[string]func(*testing.T, string){
						"deployment": e.deployment, "job": e.job, "namespace": e.namespace, "token": e.token, "certificate": e.certificate,
					} {
						t.Run(name, func(t *testing.T) {
							t.Parallel()
							if _, err := e.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
								t.Fatal(err)
							}
							e.account(t, name)
							f(t, name)
						})
					}
				})
				t.Run("leases", e.leases)
				for _, log := range started.Logs {
					quiet(t, log)
				}
			})
		}
	}, harness.SQLite, harness.OnPostgres)
}

// env is an administrator's view of the cluster.
type env struct {
	kubernetes.Interface
	config   *rest.Config
	identity string
}

// until waits for what is to come.
func until(t *testing.T, what string, come func(context.Context) (bool, error)) {
	t.Helper()
	var last error
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 3*time.Minute, true, func(ctx context.Context) (bool, error) {
		var ok bool
		ok, last = come(ctx)
		return ok && last == nil, nil
	})
	if err != nil {
		t.Fatalf("%s: %v, %v", what, err, last)
	}
}

// serving asks the ports of both: for their health, which anybody may, and for their metrics, for which the server is asked who it
// is and whether they may.
func (e env) serving(t *testing.T, started *harness.Outside) {
	pair, err := tls.X509KeyPair(e.config.CertData, e.config.KeyData)
	if err != nil {
		t.Fatal(err)
	}
	client := func(certificates ...tls.Certificate) *http.Client {
		return &http.Client{Transport: &http.Transport{
			// They make their own certificates, and no secret is sent.
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: certificates}, DisableKeepAlives: true,
		}}
	}
	anonymous, admin := client(), client(pair)
	for _, url := range []string{started.ControllersURL, started.SchedulerURL} {
		until(t, url+"/healthz", func(ctx context.Context) (bool, error) { return status(ctx, anonymous, url+"/healthz", http.StatusOK) })
		until(t, url+"/metrics", func(ctx context.Context) (bool, error) { return status(ctx, admin, url+"/metrics", http.StatusOK) })
		if ok, err := status(t.Context(), anonymous, url+"/metrics", http.StatusForbidden); !ok {
			t.Errorf("anonymous: %v", err)
		}
	}
}

func status(ctx context.Context, client *http.Client, url string, want int) (bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != want {
		return false, fmt.Errorf("%s answers %s, want %d", url, resp.Status, want)
	}
	return true, nil
}

// account waits for what every namespace gets: its service account, and the authority.
func (e env) account(t *testing.T, namespace string) {
	until(t, "service account", func(ctx context.Context) (bool, error) {
		_, err := e.CoreV1().ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{})
		return err == nil, err
	})
	want, err := os.ReadFile(filepath.Join(e.identity, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	until(t, "kube-root-ca.crt", func(ctx context.Context) (bool, error) {
		cm, err := e.CoreV1().ConfigMaps(namespace).Get(ctx, "kube-root-ca.crt", metav1.GetOptions{})
		return err == nil && cm.Data["ca.crt"] == string(want), err
	})
}

func template(labels map[string]string, restart corev1.RestartPolicy) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels},
		Spec:       corev1.PodSpec{RestartPolicy: restart, Containers: []corev1.Container{{Name: "c", Image: "example.com/c"}}},
	}
}

// deployment: its pods are bound and ready, and go with it.
func (e env) deployment(t *testing.T, ns string) {
	labels := map[string]string{"app": "web"}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: appsv1.DeploymentSpec{
		Replicas: ptr.To[int32](3), Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: template(labels, corev1.RestartPolicyAlways),
	}}
	if _, err := e.AppsV1().Deployments(ns).Create(t.Context(), d, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, "ready replicas", func(ctx context.Context) (bool, error) {
		d, err := e.AppsV1().Deployments(ns).Get(ctx, "web", metav1.GetOptions{})
		return err == nil && d.Status.ReadyReplicas == 3, err
	})
	pods, err := e.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(pods.Items) != 3 {
		t.Fatalf("%d pods, %v", len(pods.Items), err)
	}
	for _, pod := range pods.Items {
		if !strings.HasPrefix(pod.Spec.NodeName, "sim-") {
			t.Errorf("pod %s is bound to %q", pod.Name, pod.Spec.NodeName)
		}
	}
	background := metav1.DeletePropagationBackground
	if err := e.AppsV1().Deployments(ns).Delete(t.Context(), "web", metav1.DeleteOptions{PropagationPolicy: &background}); err != nil {
		t.Fatal(err)
	}
	until(t, "no replica sets and pods", func(ctx context.Context) (bool, error) {
		sets, err := e.AppsV1().ReplicaSets(ns).List(ctx, metav1.ListOptions{})
		if err != nil || len(sets.Items) > 0 {
			return false, err
		}
		pods, err := e.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{})
		return err == nil && len(pods.Items) == 0, err
	})
}

func (e env) job(t *testing.T, ns string) {
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "job"}, Spec: batchv1.JobSpec{
		Completions: ptr.To[int32](3), Parallelism: ptr.To[int32](2), Template: template(nil, corev1.RestartPolicyNever),
	}}
	if _, err := e.BatchV1().Jobs(ns).Create(t.Context(), job, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, "completion", func(ctx context.Context) (bool, error) {
		job, err := e.BatchV1().Jobs(ns).Get(ctx, "job", metav1.GetOptions{})
		return err == nil && job.Status.CompletionTime != nil && job.Status.Succeeded == 3, err
	})
}

// namespace goes with what is in it.
func (e env) namespace(t *testing.T, ns string) {
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "content"}}
	if _, err := e.CoreV1().ConfigMaps(ns).Create(t.Context(), cm, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := e.CoreV1().Namespaces().Delete(t.Context(), ns, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, "no namespace", func(ctx context.Context) (bool, error) {
		_, err := e.CoreV1().Namespaces().Get(ctx, ns, metav1.GetOptions{})
		return apierrors.IsNotFound(err), nil
	})
	if _, err := e.CoreV1().ConfigMaps(ns).Get(t.Context(), "content", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("what was in it: %v", err)
	}
}

// token: a Secret of a service account gets a token that the server believes.
func (e env) token(t *testing.T, ns string) {
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "token", Annotations: map[string]string{corev1.ServiceAccountNameKey: "default"}},
		Type:       corev1.SecretTypeServiceAccountToken,
	}
	if _, err := e.CoreV1().Secrets(ns).Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	var token string
	until(t, "token", func(ctx context.Context) (bool, error) {
		secret, err := e.CoreV1().Secrets(ns).Get(ctx, "token", metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		token = string(secret.Data[corev1.ServiceAccountTokenKey])
		return token != "" && len(secret.Data[corev1.ServiceAccountRootCAKey]) > 0, nil
	})
	config := rest.AnonymousClientConfig(e.config)
	config.BearerToken = token
	me, err := harness.ClientFor(t, config).AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if want := "system:serviceaccount:" + ns + ":default"; me.Status.UserInfo.Username != want {
		t.Errorf("the token is of %q, want %q", me.Status.UserInfo.Username, want)
	}
}

// leases are those of upstream's names, by which servers in which something acts stand for election too.
func (e env) leases(t *testing.T) {
	for _, name := range []string{"kube-controller-manager", "kube-scheduler"} {
		lease, err := e.CoordinationV1().Leases("kube-system").Get(t.Context(), name, metav1.GetOptions{})
		if err != nil || ptr.Deref(lease.Spec.HolderIdentity, "") == "" {
			t.Errorf("%s: %v, %v", name, lease.Spec, err)
		}
	}
}

// quiet fails for what a log must not have.
func quiet(t *testing.T, log string) {
	t.Helper()
	content, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(bytes.NewReader(content)); lines.Scan(); {
		line := lines.Text()
		for _, never := range []string{"forbidden", "panic", "nauthorized"} {
			if strings.Contains(strings.ToLower(line), never) {
				t.Errorf("%s: %s", filepath.Base(log), line)
			}
		}
	}
}
