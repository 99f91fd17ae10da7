package server_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	apiregistration "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	metricsclient "k8s.io/metrics/pkg/client/clientset/versioned"

	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/servertest"
)

// measured is a node that says of its pods ("web" of "default", with the containers c and d) that each used half a CPU since the node began
// to be asked.
type measured struct {
	*httptest.Server
	asked atomic.Int32
}

func newMeasured(t *testing.T, s *servertest.Server) *measured {
	t.Helper()
	began := time.Now()
	m := &measured{}
	m.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path != "/metrics/resource" {
			http.NotFound(w, req)
			return
		}
		m.asked.Add(1)
		now := time.Now()
		at, used := now.UnixMilli(), now.Sub(began).Seconds()/2
		_, _ = fmt.Fprintf(w, "# TYPE node_cpu_usage_seconds_total counter\nnode_cpu_usage_seconds_total %f %d\n", 100+4*used, at)
		_, _ = fmt.Fprintf(w, "# TYPE node_memory_working_set_bytes gauge\nnode_memory_working_set_bytes 1e+09 %d\n", at)
		_, _ = fmt.Fprintf(w, "# TYPE container_cpu_usage_seconds_total counter\n")
		for _, c := range []string{"c", "d"} {
			_, _ = fmt.Fprintf(w, "container_cpu_usage_seconds_total{container=%q,namespace=\"default\",pod=\"web\"} %f %d\n", c, 10+used, at)
		}
		_, _ = fmt.Fprintf(w, "# TYPE container_memory_working_set_bytes gauge\n")
		for _, c := range []string{"c", "d"} {
			_, _ = fmt.Fprintf(w, "container_memory_working_set_bytes{container=%q,namespace=\"default\",pod=\"web\"} 1048576 %d\n", c, at)
		}
	}))
	pair, err := s.Identity(servertest.Default).ClusterCA.IssueServing([]string{"127.0.0.1"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	m.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair.TLS}}
	m.StartTLS()
	t.Cleanup(m.Close)
	return m
}

// node registers it.
func (m *measured) node(t *testing.T, kube kubernetes.Interface, name string, labels map[string]string) {
	t.Helper()
	host, port, err := net.SplitHostPort(m.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	node, err = kube.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: host}}
	node.Status.DaemonEndpoints.KubeletEndpoint.Port = int32(number)
	if _, err := kube.CoreV1().Nodes().UpdateStatus(t.Context(), node, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func runningOn(t *testing.T, kube kubernetes.Interface, node, name string, containers ...string) {
	t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}}, Spec: corev1.PodSpec{NodeName: node}}
	pod.Status.Phase = corev1.PodRunning
	for _, c := range containers {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: c, Image: "i"})
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: c, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
		})
	}
	status := pod.Status
	pod, err := kube.CoreV1().Pods("default").Create(t.Context(), pod, metav1.CreateOptions{})
	if err == nil {
		pod.Status = status
		_, err = kube.CoreV1().Pods("default").UpdateStatus(t.Context(), pod, metav1.UpdateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func about(t *testing.T, what string, got, want float64) {
	t.Helper()
	if got < want*0.8 || got > want*1.2 {
		t.Errorf("%s: %f, want about %f", what, got, want)
	}
}

// What nodes and pods use is served by the server itself, from the nodes' own figures, when somebody asks.
func TestFiguresOfNodes(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{Plane: withLoopback})
	config := s.Config(servertest.Default, servertest.AdminToken)
	kube := s.Client(t, servertest.Default)
	client, err := metricsclient.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	m := newMeasured(t, s)
	if _, err := client.MetricsV1beta1().NodeMetricses().List(ctx, metav1.ListOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("without nodes: %v", err)
	}
	if _, err := kube.RbacV1().ClusterRoles().Get(ctx, "system:aggregated-metrics-reader", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the role without nodes: %v", err)
	}
	m.node(t, kube, "simulated", map[string]string{"rowlock.io/simulated": "true"})
	m.node(t, kube, "one", map[string]string{"disk": "fast"})
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	if _, err := kube.CoreV1().ServiceAccounts("default").Create(ctx, account, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	runningOn(t, kube, "one", "web", "c", "d")
	runningOn(t, kube, "one", "new", "c") // of which the node says nothing yet
	awaitGroup(ctx, t, kube)
	if m.asked.Load() != 0 {
		t.Error("a node was asked before anybody wanted to know")
	}
	role, err := kube.RbacV1().ClusterRoles().Get(ctx, "system:aggregated-metrics-reader", metav1.GetOptions{})
	if err != nil || role.Labels["rbac.authorization.k8s.io/aggregate-to-view"] != "true" || role.Rules[0].APIGroups[0] != "metrics.k8s.io" {
		t.Errorf("role of who may see figures: %v %+v", err, role)
	}
	list, err := client.MetricsV1beta1().NodeMetricses().List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != 1 || list.Items[0].Name != "one" || list.Items[0].Labels["disk"] != "fast" {
		t.Fatalf("nodes: %+v", list.Items)
	}
	node := list.Items[0]
	about(t, "the node's CPU", node.Usage.Cpu().AsApproximateFloat64(), 2)
	about(t, "the node's memory", node.Usage.Memory().AsApproximateFloat64(), 1e9)
	if node.Window.Duration < time.Second || time.Since(node.Timestamp.Time) > time.Minute {
		t.Errorf("window %v until %v", node.Window, node.Timestamp)
	}
	asked := m.asked.Load()
	pods, err := client.MetricsV1beta1().PodMetricses("").List(ctx, metav1.ListOptions{LabelSelector: "app in (web,new)"})
	if err != nil {
		t.Fatal(err)
	}
	if len(pods.Items) != 1 || pods.Items[0].Name != "web" || len(pods.Items[0].Containers) != 2 || pods.Items[0].Containers[1].Name != "d" {
		t.Fatalf("pods: %+v", pods.Items)
	}
	about(t, "a container's CPU", pods.Items[0].Containers[0].Usage.Cpu().AsApproximateFloat64(), 0.5)
	one, err := client.MetricsV1beta1().PodMetricses("default").Get(ctx, "web", metav1.GetOptions{})
	if err != nil || one.Labels["app"] != "web" || one.Containers[0].Usage.Memory().Value() != 1<<20 {
		t.Errorf("get: %v %+v", err, one)
	}
	if m.asked.Load() != asked {
		t.Error("the node was asked again at once")
	}
	for selector, want := range map[metav1.ListOptions]int{
		{LabelSelector: "app=db"}: 0, {LabelSelector: "app=web"}: 1, {FieldSelector: "metadata.name=web"}: 1, {FieldSelector: "metadata.name=db"}: 0,
	} {
		pods, err := client.MetricsV1beta1().PodMetricses("default").List(ctx, selector)
		if err != nil || len(pods.Items) != want {
			t.Errorf("%v: %v, %d pods, want %d", selector, err, len(pods.Items), want)
		}
	}
	if pods, err := client.MetricsV1beta1().PodMetricses("kube-system").List(ctx, metav1.ListOptions{}); err != nil || len(pods.Items) != 0 {
		t.Errorf("of another namespace: %v %+v", err, pods.Items)
	}
	for _, name := range []string{"new", "none"} {
		if _, err := client.MetricsV1beta1().PodMetricses("default").Get(ctx, name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("pod %s: %v", name, err)
		}
	}
	for _, name := range []string{"simulated", "none"} {
		if _, err := client.MetricsV1beta1().NodeMetricses().Get(ctx, name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("node %s: %v", name, err)
		}
	}
	raw := func(method, path, accept, token string) (int, string) {
		resp := wire.Send(t, s.URL, servertest.Request{Method: method, Path: path, Header: http.Header{"Accept": {accept}}, Token: token})
		return resp.Status, resp.Body
	}
	const at = "/apis/metrics.k8s.io/v1beta1"
	for _, tc := range []struct {
		method, path, accept, token string
		code                        int
		body                        string
	}{
		{path: at + "/nodes", accept: "application/json;as=Table;v=v1;g=meta.k8s.io", code: 200, body: `"columnDefinitions":[{"name":"Name"`},
		{path: at + "/namespaces/default/pods/web", accept: "application/yaml", code: 200, body: "kind: PodMetrics"},
		{path: at + "/namespaces/default/pods", accept: "application/json", code: 200, body: `{"kind":"PodMetricsList","apiVersion":"metrics.k8s.io/v1beta1"`},
		{path: at + "/services", accept: "application/json", code: 404},
		{path: at + "/nodes/one/status", accept: "application/json", code: 404},
		{path: at + "/nodes?watch=true", accept: "application/json", code: 405},
		{method: http.MethodDelete, path: at + "/nodes/one", accept: "application/json", code: 405},
		{path: at + "/nodes?labelSelector=a%3D%3D%3D", accept: "application/json", code: 400},
		{path: at + "/nodes", accept: "application/json", token: servertest.AliceToken, code: 403, body: `nodes.metrics.k8s.io is forbidden: User \"alice\" cannot list resource \"nodes\"`},
		{path: at + "/nodes/simulated", accept: "application/json", code: 404, body: `nodemetrics.metrics.k8s.io \"simulated\" not found`},
		{path: at + "/nodes/none", accept: "application/json", code: 404, body: `nodes \"none\" not found`},
		{path: at + "/namespaces/default/pods/new", accept: "application/json", code: 404, body: `podmetrics.metrics.k8s.io \"default/new\" not found`},
		{path: at + "/nodes", accept: "application/json;as=Table;v=v1;g=meta.k8s.io", code: 200, body: `{"name":"memory","type":"string","format":"quantity"`},
		{
			path: "/apis", accept: "application/json;as=APIGroupDiscoveryList;v=v2;g=apidiscovery.k8s.io", code: 200,
			body: `{"resource":"pods","responseKind":{"group":"","version":"","kind":"PodMetrics"},"scope":"Namespaced","singularResource":"","verbs":["get","list"]}`,
		},
		{path: "/apis/metrics.k8s.io", accept: "application/json", code: 200, body: `"preferredVersion":{"groupVersion":"metrics.k8s.io/v1beta1","version":"v1beta1"}`},
		{path: "/openapi/v3", accept: "application/json", code: 200, body: `"apis/metrics.k8s.io/v1beta1":{"serverRelativeURL":"/openapi/v3/apis/metrics.k8s.io/v1beta1?hash=`},
		{path: "/openapi/v3/apis/metrics.k8s.io/v1beta1", accept: "application/json", code: 200, body: `"operationId":"readMetricsV1beta1NamespacedPodMetrics"`},
		{path: "/openapi/v3/apis/metrics.k8s.io/v1beta1", accept: "application/json", code: 200, body: `"io.k8s.metrics.pkg.apis.metrics.v1beta1.NodeMetrics":{"description":"NodeMetrics sets resource usage metrics of a node."`},
		{path: "/openapi/v2", accept: "application/json", code: 200, body: `"/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods/{name}":`},
		{path: at, accept: "application/json", code: 200, body: `{"name":"nodes","singularName":"","namespaced":false,"kind":"NodeMetrics","verbs":["get","list"]}`},
	} {
		if tc.method == "" {
			tc.method = http.MethodGet
		}
		if tc.token == "" {
			tc.token = servertest.AdminToken
		}
		if code, body := raw(tc.method, tc.path, tc.accept, tc.token); code != tc.code || !strings.Contains(body, tc.body) {
			t.Errorf("%s %s: %d %s, want %d %s", tc.method, tc.path, code, body, tc.code, tc.body)
		}
	}
	theirs(ctx, t, s, client)
}

// awaitGroup waits until discovery shows the group.
func awaitGroup(ctx context.Context, t *testing.T, kube kubernetes.Interface) {
	t.Helper()
	for {
		groups, err := kube.Discovery().ServerGroups()
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range groups.Groups {
			if g.Name == "metrics.k8s.io" {
				return
			}
		}
		select {
		case <-ctx.Done():
			t.Fatal("the group is not shown")
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// theirs installs a server of metrics, as metrics-server's manifest does: it is asked instead, until it is gone.
func theirs(ctx context.Context, t *testing.T, s *servertest.Server, client metricsclient.Interface) {
	t.Helper()
	services := newAggregatorClient(t, s)
	_, err := services.ApiregistrationV1().APIServices().Create(ctx, &apiregistration.APIService{
		ObjectMeta: metav1.ObjectMeta{Name: "v1beta1.metrics.k8s.io"},
		Spec: apiregistration.APIServiceSpec{
			Group: "metrics.k8s.io", Version: "v1beta1", GroupPriorityMinimum: 100, VersionPriority: 100, InsecureSkipTLSVerify: true,
			Service: &apiregistration.ServiceReference{Namespace: "kube-system", Name: "metrics-server"},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	until := func(what string, is func(error) bool) {
		t.Helper()
		for {
			_, err := client.MetricsV1beta1().NodeMetricses().List(ctx, metav1.ListOptions{})
			if is(err) {
				return
			}
			select {
			case <-ctx.Done():
				t.Fatalf("%s: %v", what, err)
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	until("theirs is asked", apierrors.IsServiceUnavailable) // it does not exist
	described := func(want bool) {
		t.Helper()
		for {
			resp := wire.Send(t, s.URL, servertest.Request{Method: http.MethodGet, Path: "/openapi/v3/apis/metrics.k8s.io/v1beta1", Token: servertest.AdminToken})
			if (resp.Status == http.StatusOK) == want {
				return
			}
			select {
			case <-ctx.Done():
				t.Fatalf("the group is described: %d, want %v", resp.Status, want)
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	described(false) // that is theirs to do
	if err := services.ApiregistrationV1().APIServices().Delete(ctx, "v1beta1.metrics.k8s.io", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	until("ours is asked again", func(err error) bool { return err == nil })
	described(true)
}

// Who does not want it has the group served by nobody.
func TestNoFiguresOfNodes(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{Plane: func(c *controlplane.Config) {
		withLoopback(c)
		c.NoNodeMetrics = true
	}})
	kube := s.Client(t, servertest.Default)
	newMeasured(t, s).node(t, kube, "one", nil)
	for _, path := range []string{"/apis/metrics.k8s.io", "/apis/metrics.k8s.io/v1beta1", "/apis/metrics.k8s.io/v1beta1/nodes", "/openapi/v3/apis/metrics.k8s.io/v1beta1"} {
		if resp := wire.Send(t, s.URL, servertest.Request{Method: http.MethodGet, Path: path, Token: servertest.AdminToken}); resp.Status != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, resp.Status, resp.Body)
		}
	}
	groups, err := kube.Discovery().ServerGroups()
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range groups.Groups {
		if g.Name == "metrics.k8s.io" {
			t.Error("the group is shown")
		}
	}
}
