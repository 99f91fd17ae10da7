package agents

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var deployments = group{
	"a rolling update goes on as pods become ready": func(f *flow) {
		f.create(`{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {replicas: 3, selector: {matchLabels: {app: web}},
			strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}, template: ` + gated + `}}`)
		f.awaitAll("pods?app=web", "items.size() == 3 && items.all(p, p.status.phase == 'Running')")
		f.await("deployments/web", "o.status.unavailableReplicas == 3")
		f.openAll("app=web")
		f.await("deployments/web", "o.status.availableReplicas == 3 && o.status.conditions.exists(c, c.type == 'Available' && c.status == 'True')")
		f.patch("deployments/web", "spec: {template: {spec: {containers: [{name: c, image: two}]}}}")
		// One more than wanted, and none goes before that one is ready.
		f.await("deployments/web", "o.status.updatedReplicas == 1 && o.status.replicas == 4 && o.status.readyReplicas == 3 && o.status.observedGeneration == 2")
		f.wait(func() bool {
			f.openAll("app=web")
			d := f.get("deployments/web")
			return f.compile("o.status.updatedReplicas == 3 && o.status.replicas == 3 && o.status.availableReplicas == 3")(map[string]any{"o": d.Object, "items": nil}) == nil
		}, func() string { return "the update's end: " + show(f.get("deployments/web")) })
		f.awaitAll("replicasets?app=web", "items.size() == 2 && items.filter(r, r.spec.replicas == 0).size() == 1")
		f.await("deployments/web", "o.status.conditions.exists(c, c.type == 'Progressing' && c.reason == 'NewReplicaSetAvailable')")
	},
	"recreate ends the old pods before it makes new ones": func(f *flow) {
		f.create(`{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {replicas: 2, selector: {matchLabels: {app: web}},
			strategy: {type: Recreate}, template: ` + plain + `}}`)
		pods := f.awaitAll("pods?app=web", "items.size() == 2 && items.all(p, p.status.phase == 'Running')")
		f.patch("pods/"+pods[0].GetName(), "metadata: {finalizers: [flow/held]}")
		f.patch("deployments/web", "spec: {template: {spec: {containers: [{name: c, image: two}]}}}")
		// The pod that is held has ended on its node, and counts as gone once it is Failed.
		f.awaitAll("pods?app=web", "items.filter(p, p.spec.containers[0].image == 'two' && p.status.phase == 'Running').size() == 2")
		f.awaitAll("pods?app=web", "items.all(p, p.spec.containers[0].image == 'two' || p.status.phase == 'Failed')")
		f.patch("pods/"+pods[0].GetName(), "metadata: {finalizers: null}")
		f.await("deployments/web", "o.status.availableReplicas == 2 && o.status.replicas == 2")
	},
	"paused it only scales, and resumed it rolls out": func(f *flow) {
		f.create(`{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {replicas: 1, selector: {matchLabels: {app: web}}, template: ` + plain + `}}`)
		f.await("deployments/web", "o.status.availableReplicas == 1")
		f.patch("deployments/web", "spec: {paused: true, replicas: 2, template: {spec: {containers: [{name: c, image: two}]}}}")
		f.await("deployments/web", "o.status.availableReplicas == 2 && o.status.conditions.exists(c, c.type == 'Progressing' && c.reason == 'DeploymentPaused')")
		f.awaitAll("pods?app=web", "items.all(p, p.spec.containers[0].image == 'one')")
		f.patch("deployments/web", "spec: {paused: false}")
		f.await("deployments/web", "o.status.updatedReplicas == 2 && o.status.replicas == 2 && o.status.availableReplicas == 2")
		f.awaitAll("pods?app=web", "items.size() == 2 && items.all(p, p.spec.containers[0].image == 'two')")
	},
	"rolled back it takes the old ReplicaSet, and history is kept within its limit": func(f *flow) {
		f.create(`{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {replicas: 1, revisionHistoryLimit: 1, selector: {matchLabels: {app: web}}, template: ` + plain + `}}`)
		f.await("deployments/web", "o.status.availableReplicas == 1 && o.metadata.annotations['deployment.kubernetes.io/revision'] == '1'")
		first := f.awaitAll("replicasets?app=web", "items.size() == 1")[0].GetName()
		for _, step := range []struct{ image, revision string }{{"two", "2"}, {"one", "3"}} {
			f.patch("deployments/web", "spec: {template: {spec: {containers: [{name: c, image: "+step.image+"}]}}}")
			f.await("deployments/web", "o.status.updatedReplicas == 1 && o.status.replicas == 1 && o.status.availableReplicas == 1 && o.metadata.annotations['deployment.kubernetes.io/revision'] == '"+step.revision+"'")
		}
		f.await("replicasets/"+first, "o.status.availableReplicas == 1 && o.metadata.annotations['deployment.kubernetes.io/revision-history'] == '1'")
		f.patch("deployments/web", "spec: {template: {spec: {containers: [{name: c, image: three}]}}}")
		f.awaitAll("replicasets?app=web", "items.size() == 2") // of three: the limit is one old one
	},
	"a rollout that does not come along says so": func(f *flow) {
		f.create(`{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {replicas: 1, progressDeadlineSeconds: 1, selector: {matchLabels: {app: web}}, template: ` + gated + `}}`)
		f.await("deployments/web", "o.status.conditions.exists(c, c.type == 'Progressing' && c.status == 'False' && c.reason == 'ProgressDeadlineExceeded')")
		f.openAll("app=web")
		f.await("deployments/web", "o.status.conditions.exists(c, c.type == 'Progressing' && c.status == 'True' && c.reason == 'NewReplicaSetAvailable')")
	},
	"pods that are refused show in its conditions": func(f *flow) {
		f.create("{apiVersion: v1, kind: ResourceQuota, metadata: {name: none}, spec: {hard: {pods: '0'}}}")
		f.await("resourcequotas/none", "o.status.hard.pods == '0'")
		f.create(`{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {replicas: 1, selector: {matchLabels: {app: web}}, template: ` + plain + `}}`)
		f.await("deployments/web", "o.status.conditions.exists(c, c.type == 'ReplicaFailure' && c.reason == 'FailedCreate' && c.message.contains('exceeded quota: none'))")
		f.delete("resourcequotas/none")
		f.await("deployments/web", "o.status.availableReplicas == 1")
	},
}

var replicaSets = group{
	"pods that match are adopted, those that do not any more are let go": func(f *flow) {
		f.create(`{apiVersion: v1, kind: Pod, metadata: {name: orphan, labels: {app: web}}, spec: {containers: [{name: c, image: one}]}}`)
		set := f.create(`{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: web}, spec: {replicas: 2, selector: {matchLabels: {app: web}}, template: ` + plain + `}}`)
		f.await("replicasets/web", "o.status.readyReplicas == 2")
		f.await("pods/orphan", "o.metadata.ownerReferences[0].uid == '"+string(set.GetUID())+"'")
		f.patch("pods/orphan", "metadata: {labels: {app: other}}")
		f.await("pods/orphan", "!has(o.metadata.ownerReferences)")
		f.awaitAll("pods?app=web", "items.size() == 2 && items.all(p, p.status.phase == 'Running')")
	},
	"a deleted pod is replaced, and those too many go, not ready ones first": func(f *flow) {
		f.create(`{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: web}, spec: {replicas: 3, selector: {matchLabels: {app: web}}, template: ` + gated + `}}`)
		pods := f.awaitAll("pods?app=web", "items.size() == 3 && items.all(p, p.status.phase == 'Running')")
		f.delete("pods/" + pods[0].GetName())
		f.awaitAll("pods?app=web", "items.size() == 3 && items.all(p, p.status.phase == 'Running' && p.metadata.name != '"+pods[0].GetName()+"')")
		f.open(pods[1].GetName(), corev1.ConditionTrue)
		f.await("replicasets/web", "o.status.readyReplicas == 1")
		f.patch("replicasets/web/scale", "spec: {replicas: 1}")
		f.awaitAll("pods?app=web", "items.size() == 1 && items[0].metadata.name == '"+pods[1].GetName()+"'")
		f.await("replicasets/web", "o.status.replicas == 1 && o.status.observedGeneration == 2")
	},
	"a ReplicationController does the same": func(f *flow) {
		f.create(`{apiVersion: v1, kind: ReplicationController, metadata: {name: web}, spec: {replicas: 2, selector: {app: web}, template: ` + plain + `}}`)
		f.await("replicationcontrollers/web", "o.status.readyReplicas == 2")
		f.patch("replicationcontrollers/web/scale", "spec: {replicas: 0}")
		f.awaitAll("pods", "items.size() == 0")
	},
	"orphaned pods stay": func(f *flow) {
		f.create(`{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: web}, spec: {replicas: 2, selector: {matchLabels: {app: web}}, template: ` + plain + `}}`)
		f.await("replicasets/web", "o.status.readyReplicas == 2")
		f.delete("replicasets/web", metav1.DeletePropagationOrphan)
		f.gone("replicasets/web")
		f.awaitAll("pods?app=web", "items.size() == 2 && items.all(p, !has(p.metadata.ownerReferences) && !has(p.metadata.deletionTimestamp))")
	},
}
