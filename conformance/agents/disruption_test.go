package agents

import (
	"fmt"
	"strings"

	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func (f *flow) evict(pod string) error {
	return f.client.PolicyV1().Evictions(f.ns).Evict(f.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: pod, Namespace: f.ns}})
}

// blocked expects an eviction to be refused for a budget.
func (f *flow) blocked(pod string) {
	f.Helper()
	err := f.evict(pod)
	if !apierrors.IsTooManyRequests(err) || !strings.Contains(err.Error(), "disruption budget") {
		f.Fatalf("evicting gave %v; expected the disruption budget to stand against it", err)
	}
}

var disruption = group{
	"a budget blocks evictions until there are enough": func(f *flow) {
		f.create(`{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: web}, spec: {minAvailable: 2, selector: {matchLabels: {app: web}}}}`)
		f.create(`{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: web}, spec: {replicas: 2, selector: {matchLabels: {app: web}}, template: ` + plain + `}}`)
		f.await("poddisruptionbudgets/web", `o.status.expectedPods == 2 && o.status.currentHealthy == 2 && o.status.desiredHealthy == 2 && o.status.disruptionsAllowed == 0 &&
			o.status.conditions.exists(c, c.type == 'DisruptionAllowed' && c.status == 'False' && c.reason == 'InsufficientPods')`)
		pod := f.awaitAll("pods?app=web", "items.size() == 2")[0].GetName()
		f.blocked(pod)
		f.patch("replicasets/web/scale", "spec: {replicas: 3}")
		f.await("poddisruptionbudgets/web", "o.status.disruptionsAllowed == 1 && o.status.conditions.exists(c, c.type == 'DisruptionAllowed' && c.status == 'True')")
		f.check(f.evict(pod))
		f.gone("pods/" + pod)
		f.await("poddisruptionbudgets/web", "o.status.disruptionsAllowed == 1 && o.status.currentHealthy == 3 && !has(o.status.disruptedPods)")
	},
	"percentages count what the owner wants": func(f *flow) {
		f.create(`{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: web}, spec: {maxUnavailable: 50%, selector: {matchLabels: {app: web}}}}`)
		f.create(`{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {replicas: 4, selector: {matchLabels: {app: web}}, template: ` + plain + `}}`)
		f.await("poddisruptionbudgets/web", "o.status.expectedPods == 4 && o.status.desiredHealthy == 2 && o.status.disruptionsAllowed == 2")
	},
	"pods that are not healthy may go where the policy says so": func(f *flow) {
		f.create(`{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: web}, spec: {minAvailable: 1, unhealthyPodEvictionPolicy: AlwaysAllow, selector: {matchLabels: {app: web}}}}`)
		f.create(`{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: web}, spec: {replicas: 1, selector: {matchLabels: {app: web}}, template: ` + gated + `}}`)
		pod := f.awaitAll("pods?app=web", "items.size() == 1 && items[0].status.phase == 'Running'")[0].GetName()
		f.await("poddisruptionbudgets/web", "o.status.expectedPods == 1 && o.status.currentHealthy == 0")
		f.check(f.evict(pod))
		f.gone("pods/" + pod)
		f.patch("poddisruptionbudgets/web", "spec: {unhealthyPodEvictionPolicy: IfHealthyBudget}")
		f.await("poddisruptionbudgets/web", "o.status.observedGeneration == 2")
		f.blocked(f.awaitAll("pods?app=web", "items.size() == 1 && items[0].status.phase == 'Running'")[0].GetName())
	},
	"pods without an owner cannot be counted, which is told": func(f *flow) {
		f.create(`{apiVersion: v1, kind: Pod, metadata: {name: naked, labels: {app: web}}, spec: {containers: [{name: c, image: one}]}}`)
		f.create(`{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: web}, spec: {maxUnavailable: 1, selector: {matchLabels: {app: web}}}}`)
		f.await("poddisruptionbudgets/web", "o.status.currentHealthy == 1 && o.status.disruptionsAllowed == 0")
		f.awaitEvent("web", "UnmanagedPods", "Pods selected by this PodDisruptionBudget")
	},
	"a disruption that did not happen is forgotten": func(f *flow) {
		f.create(`{apiVersion: v1, kind: Pod, metadata: {name: kept, labels: {app: web}}, spec: {schedulerName: nobody, containers: [{name: c, image: one}]}}`)
		f.patch("pods/kept/status", "status: {conditions: [{type: DisruptionTarget, status: 'True', reason: Test, lastTransitionTime: '2020-01-01T00:00:00Z'}]}")
		f.await("pods/kept", "o.status.conditions.exists(c, c.type == 'DisruptionTarget' && c.status == 'False')")
	},
}

var quotas = group{
	"usage follows what comes and goes, and no more is let in than there may be": func(f *flow) {
		f.create("{apiVersion: v1, kind: ResourceQuota, metadata: {name: q}, spec: {hard: {configmaps: '2', pods: '1', requests.cpu: '1', count/deployments.apps: '1'}}}")
		f.await("resourcequotas/q", "o.status.used.configmaps == '1' && o.status.used.pods == '0'") // kube-root-ca.crt
		f.create("{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}")
		f.refused("{apiVersion: v1, kind: ConfigMap, metadata: {name: b}}", "exceeded quota: q, requested: configmaps=1, used: configmaps=2, limited: configmaps=2")
		f.delete("configmaps/a")
		f.await("resourcequotas/q", "o.status.used.configmaps == '1'")
		f.create("{apiVersion: v1, kind: ConfigMap, metadata: {name: b}}")
		f.refused("{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, image: one}]}}", "must specify requests.cpu")
		f.create("{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {schedulerName: nobody, containers: [{name: c, image: one, resources: {requests: {cpu: 600m}}}]}}")
		f.await("resourcequotas/q", "o.status.used.pods == '1' && o.status.used['requests.cpu'] == '600m'")
		f.ended("p", 0)
		f.await("resourcequotas/q", "o.status.used.pods == '0' && o.status.used['requests.cpu'] == '0'")
		f.create(`{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {replicas: 0, selector: {matchLabels: {app: web}}, template: ` + plain + `}}`)
		f.refused(`{apiVersion: apps/v1, kind: Deployment, metadata: {name: two}, spec: {replicas: 0, selector: {matchLabels: {app: web}}, template: `+plain+`}}`, "exceeded quota")
		f.delete("deployments/web")
		f.await("resourcequotas/q", "o.status.used['count/deployments.apps'] == '0'")
		f.patch("resourcequotas/q", "spec: {hard: {configmaps: '7'}}")
		f.await("resourcequotas/q", "o.status.hard.configmaps == '7'")
	},
	"scopes choose the pods": func(f *flow) {
		f.create("{apiVersion: v1, kind: ResourceQuota, metadata: {name: best}, spec: {hard: {pods: '1'}, scopes: [BestEffort]}}")
		f.create("{apiVersion: v1, kind: ResourceQuota, metadata: {name: high}, spec: {hard: {pods: '1'}, scopeSelector: {matchExpressions: [{scopeName: PriorityClass, operator: In, values: [system-cluster-critical]}]}}}")
		f.await("resourcequotas/best", "o.status.used.pods == '0'")
		f.await("resourcequotas/high", "o.status.used.pods == '0'")
		f.create("{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {priorityClassName: system-cluster-critical, containers: [{name: c, image: one, resources: {requests: {cpu: 1m}}}]}}")
		f.await("resourcequotas/high", "o.status.used.pods == '1'")
		f.await("resourcequotas/best", "o.status.used.pods == '0'")
		f.create("{apiVersion: v1, kind: Pod, metadata: {name: b}, spec: {containers: [{name: c, image: one}]}}")
		f.await("resourcequotas/best", "o.status.used.pods == '1'")
		f.refused("{apiVersion: v1, kind: Pod, metadata: {name: c}, spec: {containers: [{name: c, image: one}]}}", "exceeded quota: best")
	},
	"custom resources are counted": func(f *flow) {
		kind := f.customKind("counted", "Namespaced")
		f.create("{apiVersion: v1, kind: ResourceQuota, metadata: {name: q}, spec: {hard: {count/" + kind.resource + ": '1'}}}")
		var changes int
		f.wait(func() bool { // what is not known yet is counted when the quota changes, or minutes later
			changes++
			q := f.patch("resourcequotas/q", fmt.Sprintf("spec: {hard: {secrets: '%d'}}", changes))
			return f.compile("o.status.used['count/"+kind.resource+"'] == '0'")(map[string]any{"o": q.Object, "items": nil}) == nil
		}, func() string { return "the kind to be counted" })
		// The last change is counted for as well, and not while the object is made: that count would be from before it, in upstream too.
		f.await("resourcequotas/q", fmt.Sprintf("o.status.hard.secrets == '%d'", changes))
		f.create(kind.object("a", ""))
		f.refused(kind.object("b", ""), "exceeded quota: q")
		f.delete(kind.resource + "/a")
		f.await("resourcequotas/q", "o.status.used['count/"+kind.resource+"'] == '0'")
		f.create(kind.object("b", ""))
	},
	"limits are defaults, and bounds": func(f *flow) {
		f.create("{apiVersion: v1, kind: LimitRange, metadata: {name: l}, spec: {limits: [{type: Container, default: {cpu: 200m}, defaultRequest: {cpu: 100m}, max: {cpu: 300m}}, {type: PersistentVolumeClaim, max: {storage: 1Gi}}]}}")
		f.wait(func() bool { // admission learns of it by an informer
			made, err := f.try("{apiVersion: v1, kind: Pod, metadata: {generateName: p-}, spec: {containers: [{name: c, image: one}]}}")
			f.check(err)
			return f.compile("o.spec.containers[0].resources.requests.cpu == '100m' && o.spec.containers[0].resources.limits.cpu == '200m'")(map[string]any{"o": made[0].Object, "items": nil}) == nil
		}, func() string { return "the LimitRange to hold" })
		f.refused("{apiVersion: v1, kind: Pod, metadata: {name: big}, spec: {containers: [{name: c, image: one, resources: {limits: {cpu: 400m}}}]}}", "maximum cpu usage per Container is 300m, but limit is 400m")
		f.refused("{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: big}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 2Gi}}}}", "maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi")
	},
}
