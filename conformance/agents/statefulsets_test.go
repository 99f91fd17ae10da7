package agents

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// statefulSet is one with further fields of its spec.
func statefulSet(template, fields string) string {
	return fmt.Sprintf(`{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: db}, spec: {serviceName: db, selector: {matchLabels: {app: web}}, template: %s, %s}}`, template, fields)
}

var statefulSets = group{
	"pods come one by one, each when the one before is ready, and go in reverse": func(f *flow) {
		f.create(statefulSet(gated, "replicas: 2"))
		f.await("pods/db-0", "o.status.phase == 'Running' && o.metadata.labels['apps.kubernetes.io/pod-index'] == '0' && o.spec.hostname == 'db-0' && o.spec.subdomain == 'db'")
		f.await("statefulsets/db", "o.status.replicas == 1 && o.status.observedGeneration == 1")
		f.open("db-0", corev1.ConditionTrue)
		f.await("pods/db-1", "o.status.phase == 'Running'")
		f.open("db-1", corev1.ConditionTrue)
		f.await("statefulsets/db", "o.status.readyReplicas == 2 && o.status.availableReplicas == 2")
		f.patch("pods/db-1", "metadata: {finalizers: [flow/held]}")
		f.patch("statefulsets/db/scale", "spec: {replicas: 0}")
		f.await("pods/db-1", "has(o.metadata.deletionTimestamp)")
		f.await("pods/db-0", "!has(o.metadata.deletionTimestamp)")
		f.patch("pods/db-1", "metadata: {finalizers: null}")
		f.gone("pods/db-1")
		f.gone("pods/db-0")
	},
	"in parallel no pod waits": func(f *flow) {
		f.create(statefulSet(gated, "replicas: 3, podManagementPolicy: Parallel, ordinals: {start: 5}"))
		f.awaitAll("pods?app=web", "items.size() == 3 && items.all(p, p.status.phase == 'Running') && items.map(p, p.metadata.name).all(n, n in ['db-5', 'db-6', 'db-7'])")
		f.await("statefulsets/db", "o.status.replicas == 3 && !has(o.status.readyReplicas)")
	},
	"an update stops at the partition": func(f *flow) {
		f.create(statefulSet(plain, "replicas: 3, updateStrategy: {rollingUpdate: {partition: 2}}"))
		f.await("statefulsets/db", "o.status.readyReplicas == 3")
		f.patch("statefulsets/db", "spec: {template: {spec: {containers: [{name: c, image: two}]}}}")
		f.await("pods/db-2", "o.spec.containers[0].image == 'two' && o.status.phase == 'Running'")
		f.await("statefulsets/db", "o.status.updatedReplicas == 1 && o.status.currentReplicas == 2 && o.status.updateRevision != o.status.currentRevision")
		f.delete("pods/db-0") // comes again as it was
		f.await("statefulsets/db", "o.status.readyReplicas == 3 && o.status.updatedReplicas == 1")
		f.await("pods/db-0", "o.spec.containers[0].image == 'one'")
		f.patch("statefulsets/db", "spec: {updateStrategy: {rollingUpdate: {partition: 0}}}")
		f.await("statefulsets/db", "o.status.currentRevision == o.status.updateRevision && o.status.readyReplicas == 3")
		f.awaitAll("pods?app=web", "items.all(p, p.spec.containers[0].image == 'two')")
		f.awaitAll("controllerrevisions?app=web", "items.size() == 2")
	},
	"claims are made for each pod, and go or stay as their policy says": func(f *flow) {
		f.create(statefulSet("{metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: one, volumeMounts: [{name: data, mountPath: /data}]}]}}",
			`replicas: 2, podManagementPolicy: Parallel, persistentVolumeClaimRetentionPolicy: {whenScaled: Delete, whenDeleted: Retain},
			 volumeClaimTemplates: [{metadata: {name: data}, spec: {storageClassName: $NS, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}]`))
		f.awaitAll("persistentvolumeclaims", "items.map(c, c.metadata.name).all(n, n in ['data-db-0', 'data-db-1']) && items.size() == 2")
		for i := range 2 {
			f.create(fmt.Sprintf(`{apiVersion: v1, kind: PersistentVolume, metadata: {name: $NS-%d}, spec: {storageClassName: $NS, capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /tmp}}}`, i))
		}
		f.await("statefulsets/db", "o.status.readyReplicas == 2")
		f.await("persistentvolumeclaims/data-db-0", "o.status.phase == 'Bound'")
		f.patch("statefulsets/db/scale", "spec: {replicas: 1}")
		f.gone("persistentvolumeclaims/data-db-1")
		f.delete("statefulsets/db")
		f.gone("pods/db-0")
		f.await("persistentvolumeclaims/data-db-0", "o.status.phase == 'Bound' && !has(o.metadata.deletionTimestamp) && !has(o.metadata.ownerReferences)")
	},
	"claims that go with the set have it as their owner": func(f *flow) {
		f.create(statefulSet("{metadata: {labels: {app: web}}, spec: {schedulerName: nobody, containers: [{name: c, image: one}]}}",
			`replicas: 1, persistentVolumeClaimRetentionPolicy: {whenScaled: Retain, whenDeleted: Delete},
			 volumeClaimTemplates: [{metadata: {name: data}, spec: {storageClassName: $NS, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}]`))
		f.await("persistentvolumeclaims/data-db-0", "o.metadata.ownerReferences[0].kind == 'StatefulSet'")
		f.delete("statefulsets/db")
		f.gone("persistentvolumeclaims/data-db-0")
	},
}
