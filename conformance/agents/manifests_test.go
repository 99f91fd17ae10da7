package agents

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// gated is a pod template whose pods run and are not ready until somebody opens their gate.
const gated = "{metadata: {labels: {app: web}}, spec: {readinessGates: [{conditionType: flow/open}], containers: [{name: c, image: one}]}}"

// plain is a pod template whose pods are ready at once.
const plain = "{metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: one}]}}"

// held is a pod template whose pods no scheduler takes: the flow plays their kubelet.
const held = "{metadata: {labels: {app: web}}, spec: {schedulerName: nobody, restartPolicy: Never, containers: [{name: c, image: one}]}}"

// open sets the condition of a pod's readiness gate, unless the pod is gone.
func (f *flow) open(pod string, status corev1.ConditionStatus) {
	f.Helper()
	f.wait(func() bool {
		p, err := f.client.CoreV1().Pods(f.ns).Get(f.Context(), pod, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return true // it went meanwhile
		}
		f.check(err)
		conditions := []corev1.PodCondition{{Type: "flow/open", Status: status, LastTransitionTime: metav1.Now()}}
		for _, c := range p.Status.Conditions {
			if c.Type != "flow/open" {
				conditions = append(conditions, c)
			}
		}
		p.Status.Conditions = conditions
		_, err = f.client.CoreV1().Pods(f.ns).UpdateStatus(f.Context(), p, metav1.UpdateOptions{})
		return err == nil
	}, func() string { return "the gate of " + pod })
}

// openAll opens the gates of all pods with a selector that are there now.
func (f *flow) openAll(selector string) {
	f.Helper()
	pods, err := f.client.CoreV1().Pods(f.ns).List(f.Context(), metav1.ListOptions{LabelSelector: selector})
	f.check(err)
	for _, p := range pods.Items {
		f.open(p.Name, corev1.ConditionTrue)
	}
}

// ended makes a pod's only container end, as its kubelet would.
func (f *flow) ended(pod string, code int) {
	f.Helper()
	phase := "Succeeded"
	if code != 0 {
		phase = "Failed"
	}
	now := time.Now().UTC().Format(time.RFC3339)
	f.patch("pods/"+pod+"/status", fmt.Sprintf(
		"status: {phase: %s, containerStatuses: [{name: c, image: one, imageID: one, ready: false, restartCount: 0, state: {terminated: {exitCode: %d, startedAt: %q, finishedAt: %q}}}]}",
		phase, code, now, now))
}

// node makes a simulated node that only pods of the flow come to: with a taint that they must tolerate, and with labels
// beside "flow: $NS", as "a: b".
func (f *flow) node(name string, labels ...string) string {
	f.Helper()
	name = f.ns + "-" + name
	f.create(fmt.Sprintf(`
apiVersion: v1
kind: Node
metadata: {name: %s, labels: {%s}}
spec: {taints: [{key: flow, value: $NS, effect: NoSchedule}]}`,
		name, strings.Join(append(labels, "rowlock.io/simulated: 'true'", "flow: $NS", "kubernetes.io/hostname: "+name), ", ")))
	f.await("nodes/"+name, usable)
	return name
}

// usable is said of a node to which pods may be bound.
const usable = "o.status.conditions.exists(c, c.type == 'Ready' && c.status == 'True') && !o.spec.?taints.orValue([]).exists(t, t.key.startsWith('node.kubernetes.io'))"

// here is in the spec of pods for the nodes of the flow.
const here = "nodeSelector: {flow: $NS}, tolerations: [{key: flow, operator: Exists}]"
