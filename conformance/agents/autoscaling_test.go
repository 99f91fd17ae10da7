package agents

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// meter is a server of metrics: what pods use, and what is measured elsewhere.
type meter struct {
	flow  *flow
	milli atomic.Int64 // CPU of each pod
	queue atomic.Int64
}

func (m *meter) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	now := time.Now().UTC().Format(time.RFC3339)
	namespaced := func(rest string) string { return "/namespaces/" + m.flow.ns + "/" + rest }
	switch path, external := strings.CutPrefix(req.URL.Path, "/apis/external.metrics.k8s.io/v1beta1"); {
	case external && path == "":
		discovery(w, "external.metrics.k8s.io/v1beta1", "queue", "ExternalMetricValueList")
	case external && path == namespaced("queue"):
		answer(w, map[string]any{"kind": "ExternalMetricValueList", "apiVersion": "external.metrics.k8s.io/v1beta1", "metadata": map[string]any{}, "items": []any{
			map[string]any{"metricName": "queue", "timestamp": now, "value": fmt.Sprint(m.queue.Load())},
		}})
	case req.URL.Path == "/apis/metrics.k8s.io/v1beta1":
		discovery(w, "metrics.k8s.io/v1beta1", "pods", "PodMetrics")
	case req.URL.Path == "/apis/metrics.k8s.io/v1beta1"+namespaced("pods"):
		pods, err := m.flow.client.CoreV1().Pods(m.flow.ns).List(req.Context(), metav1.ListOptions{LabelSelector: req.URL.Query().Get("labelSelector")})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		items := []any{}
		for _, p := range pods.Items {
			items = append(items, map[string]any{
				"metadata": map[string]any{"name": p.Name, "namespace": p.Namespace}, "timestamp": now, "window": "0s",
				"containers": []any{map[string]any{"name": "c", "usage": map[string]any{"cpu": fmt.Sprint(m.milli.Load(), "m"), "memory": "1Mi"}}},
			})
		}
		answer(w, map[string]any{"kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "metadata": map[string]any{}, "items": items})
	default:
		http.NotFound(w, req)
	}
}

func answer(w http.ResponseWriter, obj map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(obj)
}

func discovery(w http.ResponseWriter, version, resource, kind string) {
	answer(w, map[string]any{"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": []any{
		map[string]any{"name": resource, "singularName": "", "namespaced": true, "kind": kind, "verbs": []string{"get", "list"}},
	}})
}

// serve makes the meter the cluster's server of metrics, for as long as the flow lasts.
func (m *meter) serve() {
	f := m.flow
	address := harness.MachineAddress(f)
	certPEM, keyPEM := harness.NewCertificate(f, "metrics."+f.ns+".svc")
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	f.check(err)
	listener, err := tls.Listen("tcp", net.JoinHostPort(address, "0"), &tls.Config{Certificates: []tls.Certificate{cert}})
	f.check(err)
	server := &http.Server{Handler: m, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	f.Cleanup(func() { _ = server.Close() })
	f.create(fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: metrics}
spec: {ports: [{name: https, port: 443}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: metrics, labels: {kubernetes.io/service-name: metrics}}
addressType: %s
endpoints: [{addresses: ['%s']}]
ports: [{name: https, port: %d}]`, harness.AddressType(address), address, listener.Addr().(*net.TCPAddr).Port))
	for _, group := range []string{"metrics.k8s.io", "external.metrics.k8s.io"} {
		ca, err := json.Marshal(certPEM)
		f.check(err)
		f.create(fmt.Sprintf(`{apiVersion: apiregistration.k8s.io/v1, kind: APIService, metadata: {name: v1beta1.%s}, spec: {group: %s, version: v1beta1, caBundle: %s,
			groupPriorityMinimum: 100, versionPriority: 100, service: {namespace: $NS, name: metrics}}}`, group, group, ca))
		f.await("apiservices/v1beta1."+group, "o.status.conditions.exists(c, c.type == 'Available' && c.status == 'True')")
		f.Cleanup(func() {
			_ = f.client.Discovery().RESTClient().Delete().AbsPath("/apis/apiregistration.k8s.io/v1/apiservices/v1beta1." + group).Do(f.cleaning()).Error()
		})
	}
}

var autoscaling = group{
	"it follows what pods use and what is measured elsewhere, and says when there is nothing to go by": func(f *flow) {
		f.create(`{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {replicas: 1, selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: one, resources: {requests: {cpu: 100m}}}]}}}}`)
		scaler := func(name, target, metric string) string {
			return fmt.Sprintf(`{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: %s}, spec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: %s}, minReplicas: 1, maxReplicas: 4,
				behavior: {scaleDown: {stabilizationWindowSeconds: 0}}, metrics: [%s]}}`, name, target, metric)
		}
		f.create(scaler("web", "web", "{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}"))
		f.create(scaler("lost", "nobody", "{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}"))
		f.await("horizontalpodautoscalers/web", `o.status.conditions.exists(c, c.type == 'AbleToScale' && c.status == 'True') &&
			o.status.conditions.exists(c, c.type == 'ScalingActive' && c.status == 'False' && c.reason == 'FailedGetResourceMetric')`)
		f.awaitEvent("web", "FailedGetResourceMetric", "the server could not find the requested resource (get pods.metrics.k8s.io)")
		f.await("horizontalpodautoscalers/lost", "o.status.conditions.exists(c, c.type == 'AbleToScale' && c.status == 'False' && c.reason == 'FailedGetScale')")
		m := &meter{flow: f}
		m.milli.Store(100) // twice what is aimed at
		m.serve()
		f.await("deployments/web", "o.spec.replicas == 2 || o.spec.replicas == 4")
		f.await("horizontalpodautoscalers/web", "o.status.desiredReplicas == 4 && o.status.conditions.exists(c, c.type == 'ScalingLimited' && c.status == 'True') && o.status.currentMetrics[0].resource.current.averageUtilization == 100")
		f.awaitEvent("web", "SuccessfulRescale", "New size: ")
		m.milli.Store(10)
		f.await("deployments/web", "o.spec.replicas == 1")
		f.delete("horizontalpodautoscalers/web")
		f.create(scaler("queue", "web", "{type: External, external: {metric: {name: queue}, target: {type: AverageValue, averageValue: '10'}}}"))
		m.queue.Store(30)
		f.await("deployments/web", "o.spec.replicas == 3 && o.status.availableReplicas == 3")
		f.await("horizontalpodautoscalers/queue", "o.status.conditions.exists(c, c.type == 'ScalingActive' && c.status == 'True' && c.reason == 'ValidMetricFound')")
	},
}
