package agents

import "fmt"

func volume(name, fields string) string {
	return fmt.Sprintf("{apiVersion: v1, kind: PersistentVolume, metadata: {name: $NS-%s}, spec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], %s}}", name, fields)
}

func claim(name, fields string) string {
	return fmt.Sprintf("{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: %s}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}, %s}}", name, fields)
}

// mounting is the manifest of a pod with a claim.
func mounting(name, claim, fields string) string {
	return fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: %s}, spec: {containers: [{name: c, image: one}], volumes: [{name: v, persistentVolumeClaim: {claimName: %s}}], %s}}", name, claim, fields)
}

const hostPath = "hostPath: {path: /tmp}"

var volumes = group{
	"a claim is bound, and its volume kept when it goes": func(f *flow) {
		f.create(volume("v", "storageClassName: $NS, persistentVolumeReclaimPolicy: Retain, "+hostPath))
		f.await("persistentvolumes/$NS-v", "o.status.phase == 'Available'")
		f.create(claim("c", "storageClassName: $NS"))
		f.await("persistentvolumeclaims/c", "o.status.phase == 'Bound' && o.spec.volumeName == '$NS-v' && o.status.capacity.storage == '1Gi'")
		f.await("persistentvolumes/$NS-v", "o.status.phase == 'Bound' && o.spec.claimRef.name == 'c'")
		f.delete("persistentvolumeclaims/c")
		f.await("persistentvolumes/$NS-v", "o.status.phase == 'Released'")
	},
	"a volume that nobody can delete says so": func(f *flow) {
		f.create(volume("v", "storageClassName: $NS, persistentVolumeReclaimPolicy: Delete, nfs: {server: a, path: /b}"))
		f.create(claim("c", "storageClassName: $NS"))
		f.await("persistentvolumeclaims/c", "o.status.phase == 'Bound'")
		f.delete("persistentvolumeclaims/c")
		f.await("persistentvolumes/$NS-v", "o.status.phase == 'Failed'")
		f.in("default").awaitEvent(f.ns+"-v", "VolumeFailedDelete", "no deletable volume plugin matched")
	},
	"a claim without a volume waits, and says for what": func(f *flow) {
		f.create(claim("c", "storageClassName: $NS"))
		f.awaitEvent("c", "ProvisioningFailed", "not found")
		f.create("{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: $NS}, provisioner: example.com/nobody}")
		f.awaitEvent("c", "ExternalProvisioning", "example.com/nobody")
		f.await("persistentvolumeclaims/c", "o.status.phase == 'Pending' && o.metadata.annotations['volume.kubernetes.io/storage-provisioner'] == 'example.com/nobody'")
	},
	"what is in use does not go": func(f *flow) {
		f.create(volume("v", "storageClassName: $NS, "+hostPath))
		f.create(claim("c", "storageClassName: $NS"))
		f.create(mounting("p", "c", ""))
		f.await("pods/p", "o.status.phase == 'Running'")
		f.delete("persistentvolumeclaims/c")
		f.delete("persistentvolumes/$NS-v")
		f.await("persistentvolumeclaims/c", "has(o.metadata.deletionTimestamp) && o.metadata.finalizers == ['kubernetes.io/pvc-protection']")
		f.await("persistentvolumes/$NS-v", "has(o.metadata.deletionTimestamp) && 'kubernetes.io/pv-protection' in o.metadata.finalizers")
		f.delete("pods/p")
		f.gone("persistentvolumeclaims/c")
		f.gone("persistentvolumes/$NS-v")
	},
	"a local volume is bound when a pod comes, and the pod goes where it is": func(f *flow) {
		f.node("a")
		b := f.node("b")
		f.create("{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: $NS}, provisioner: kubernetes.io/no-provisioner, volumeBindingMode: WaitForFirstConsumer}")
		f.create(volume("v", "storageClassName: $NS, local: {path: /data}, nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: ["+b+"]}]}]}}"))
		f.create(claim("c", "storageClassName: $NS"))
		f.awaitEvent("c", "WaitForFirstConsumer", "waiting for first consumer to be created before binding")
		f.create(mounting("p", "c", here))
		f.await("pods/p", "o.status.phase == 'Running' && o.spec.nodeName == '"+b+"'")
		f.await("persistentvolumeclaims/c", "o.status.phase == 'Bound' && o.spec.volumeName == '$NS-v'")
	},
	"a class that expands lets claims grow, and somebody has to do it": func(f *flow) {
		f.create("{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: $NS}, provisioner: example.com/nobody, allowVolumeExpansion: true}")
		f.create(volume("v", "storageClassName: $NS, "+hostPath))
		f.create(claim("c", "storageClassName: $NS"))
		f.await("persistentvolumeclaims/c", "o.status.phase == 'Bound'")
		f.patch("persistentvolumeclaims/c", "spec: {resources: {requests: {storage: 2Gi}}}")
		f.awaitEvent("c", "ExternalExpanding", "waiting for an external controller to expand")
	},
	"a claim that names no class gets the default one, also when that comes later": func(f *flow) {
		f.create(claim("c", "volumeMode: Filesystem"))
		f.await("persistentvolumeclaims/c", "!has(o.spec.storageClassName)")
		f.create("{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: $NS, annotations: {storageclass.kubernetes.io/is-default-class: 'true'}}, provisioner: example.com/nobody}")
		f.await("persistentvolumeclaims/c", "o.spec.storageClassName == '$NS'")
		f.create(claim("d", "volumeMode: Filesystem"))
		f.await("persistentvolumeclaims/d", "o.spec.storageClassName == '$NS'")
	},
	"a class of attributes stays while a claim has it": func(f *flow) {
		f.create("{apiVersion: storage.k8s.io/v1, kind: VolumeAttributesClass, metadata: {name: $NS}, driverName: example.com/nobody, parameters: {a: b}}")
		f.await("volumeattributesclasses/$NS", "'kubernetes.io/vac-protection' in o.metadata.finalizers")
		f.create(claim("c", "storageClassName: $NS, volumeAttributesClassName: $NS"))
		f.delete("volumeattributesclasses/$NS")
		f.await("volumeattributesclasses/$NS", "has(o.metadata.deletionTimestamp)")
		f.delete("persistentvolumeclaims/c")
		f.gone("volumeattributesclasses/$NS")
	},
	"a pod of its own claims has them made, and they go with it": func(f *flow) {
		f.create("{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {schedulerName: nobody, containers: [{name: c, image: one}], volumes: [{name: scratch, ephemeral: {volumeClaimTemplate: {spec: {storageClassName: $NS, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}}}]}}")
		f.await("persistentvolumeclaims/p-scratch", "o.metadata.ownerReferences[0].name == 'p' && o.metadata.ownerReferences[0].kind == 'Pod'")
		f.delete("pods/p")
		f.gone("persistentvolumeclaims/p-scratch")
	},
	"a volume of a driver is attached where its pod is, and detached after it": func(f *flow) {
		node := f.node("a")
		f.create("{apiVersion: storage.k8s.io/v1, kind: CSIDriver, metadata: {name: $NS.example.com}, spec: {attachRequired: true}}")
		f.create(fmt.Sprintf("{apiVersion: storage.k8s.io/v1, kind: CSINode, metadata: {name: %s}, spec: {drivers: [{name: $NS.example.com, nodeID: %s}]}}", node, node))
		f.create(volume("v", "storageClassName: $NS, csi: {driver: $NS.example.com, volumeHandle: $NS}"))
		f.create(claim("c", "storageClassName: $NS"))
		f.patch("nodes/"+node, "metadata: {annotations: {volumes.kubernetes.io/controller-managed-attach-detach: 'true'}}")
		f.create(mounting("p", "c", here))
		attachment := f.awaitAll("volumeattachments", "items.exists_one(a, a.spec.attacher == '$NS.example.com' && a.spec.nodeName == '"+node+"' && a.spec.source.persistentVolumeName == '$NS-v')")
		for _, a := range attachment {
			if spec := a.Object["spec"].(map[string]any); spec["attacher"] == f.ns+".example.com" {
				f.patch("volumeattachments/"+a.GetName()+"/status", "status: {attached: true}")
			}
		}
		f.await("nodes/"+node, "o.status.volumesAttached.exists(v, v.name.contains('$NS.example.com'))")
		f.awaitEvent("p", "SuccessfulAttachVolume", "AttachVolume.Attach succeeded")
		f.delete("pods/p")
		f.awaitAll("volumeattachments", "items.all(a, a.spec.attacher != '$NS.example.com' || has(a.metadata.deletionTimestamp))")
		f.await("nodes/"+node, "!has(o.status.volumesAttached)")
	},
}
