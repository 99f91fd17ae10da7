package nodes

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rowlock-io/rowlock/conformance/harness"
	"github.com/rowlock-io/rowlock/conformance/noderuntime"
)

// worker is a deployment whose pods work while there is a file, and an autoscaler of it.
const worker = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: worker}
spec:
  replicas: 1
  selector: {matchLabels: {app: worker}}
  template:
    metadata: {labels: {app: worker}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: c
        image: ` + noderuntime.BusyboxImage + `
        command: [sh, -c, 'while :; do if [ -e /tmp/on ]; then n=0; while [ $n -lt 10000 ]; do n=$((n+1)); done; else sleep 0.2; fi; done']
        resources: {requests: {cpu: 50m}, limits: {cpu: 200m}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: worker}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: worker}
  minReplicas: 1
  maxReplicas: 2
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]
`

// TestFigures: with nothing installed kubectl shows what nodes and pods use, and an autoscaler has a deployment grow while its pod works, and
// shrink when it does not any more.
func TestFigures(t *testing.T) {
	long(t)
	c := newServer(t, "--horizontal-pod-autoscaler-sync-period=2s", "--horizontal-pod-autoscaler-downscale-stabilization=1s",
		"--horizontal-pod-autoscaler-cpu-initialization-period=1s", "--horizontal-pod-autoscaler-initial-readiness-delay=1s")
	c.add(t, "one")
	harness.AwaitNodes(t, c, 1)
	c.kubectl(t, worker, "apply", "-f", "-")
	first := c.ready(t, "worker", 1)[0].Name
	shows := func(want string, args ...string) {
		t.Helper()
		pattern := regexp.MustCompile(want)
		out := ""
		c.eventually(t, fmt.Sprintf("kubectl %s shows %s", strings.Join(args, " "), want), func(context.Context) (bool, error) {
			out = c.kubectlMay(t, args...) // a container that began just now has no figures
			return pattern.MatchString(out), nil
		})
	}
	shows(`(?m)^`+first+` +\d+m +\d+Mi`, "top", "pods")
	shows(`(?m)^`+first+` +c +\d+m +\d+Mi`, "top", "pods", "--containers", "-l", "app=worker")
	shows(`(?m)^one +\d+m +\d+% +\d+Mi +\d+%`, "top", "nodes")
	shows(`(?m)^NAME +CPU +MEMORY +WINDOW\none +[0-9a-z]+ +[0-9A-Za-z]+ +[0-9.]+s`, "get", "nodes.metrics.k8s.io")
	shows(`(?m)^`+first+` +[0-9a-z]+ +[0-9A-Za-z]+ +[0-9.]+s`, "get", "pods.metrics.k8s.io", first)
	shows(`(?s)KIND: +PodMetrics.*containers\t<\[\]ContainerMetrics> -required-`, "explain", "pods", "--api-version=metrics.k8s.io/v1beta1")
	shows(`pods +metrics.k8s.io/v1beta1 +true +PodMetrics`, "api-resources", "--api-group=metrics.k8s.io")

	replicas := func(want int32) {
		t.Helper()
		c.eventually(t, fmt.Sprintf("there are %d", want), func(ctx context.Context) (bool, error) {
			d, err := c.AppsV1().Deployments("default").Get(ctx, "worker", metav1.GetOptions{})
			return err == nil && *d.Spec.Replicas == want && d.Status.ReadyReplicas == want, err
		})
	}
	c.kubectl(t, "", "exec", first, "--", "touch", "/tmp/on")
	replicas(2)
	// Who is to go is for the ReplicaSet to choose; both pods rest.
	for _, pod := range c.ready(t, "worker", 2) {
		c.kubectl(t, "", "exec", pod.Name, "--", "rm", "-f", "/tmp/on")
	}
	replicas(1)
	if out := c.kubectlMay(t, "describe", "hpa", "worker"); !strings.Contains(out, "SuccessfulRescale") || !strings.Contains(out, "ValidMetricFound") {
		t.Errorf("the autoscaler says:\n%s", out)
	}
}
