package agents

import (
	"fmt"
	"strings"
)

// pod is the manifest of one on the flow's nodes, with further fields of its spec.
func pod(name, fields string) string {
	return fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: %s, labels: {app: web}}, spec: {%s, containers: [{name: c, image: one}], %s}}", name, here, fields)
}

// asking is the manifest of one that asks for CPU.
func asking(name, cpu, fields string) string {
	return fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: %s}, spec: {%s, containers: [{name: c, image: one, resources: {requests: {cpu: %s}}}], %s}}", name, here, cpu, fields)
}

// unschedulable is said of a pod for which there is no node.
const unschedulable = "o.status.conditions.exists(c, c.type == 'PodScheduled' && c.status == 'False' && c.reason == 'Unschedulable')"

const runs = "o.status.phase == 'Running'"

func on(node string) string { return runs + " && o.spec.nodeName == '" + node + "'" }

var scheduling = group{
	"affinity to nodes, to pods and against them": func(f *flow) {
		a, b := f.node("a", "disk: ssd"), f.node("b", "disk: tape")
		f.create(pod("picky", "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: disk, operator: In, values: [ssd]}]}]}}}"))
		f.await("pods/picky", on(a))
		term := "{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: web}}}"
		f.create(pod("far", "affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: ["+term+"]}}"))
		f.await("pods/far", on(b))
		f.create(pod("alone", "affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: ["+term+"]}}"))
		f.await("pods/alone", unschedulable)
		f.awaitEvent("alone", "FailedScheduling", "didn't match pod anti-affinity rules")
		f.create(strings.Replace(pod("near", "affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: disk, labelSelector: {matchLabels: {app: web}}}]}, nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 100, preference: {matchExpressions: [{key: disk, operator: In, values: [tape]}]}}]}}"), "app: web}}, spec", "app: other}}, spec", 1))
		f.await("pods/near", runs)
		f.delete("pods/far") // makes room
		f.delete("pods/near")
		f.await("pods/alone", on(b))
	},
	"pods are spread over zones": func(f *flow) {
		for i, zone := range []string{"x", "x", "y"} {
			f.node(fmt.Sprint(i), "topology.kubernetes.io/zone: zone-"+zone)
		}
		f.create(`{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: web}, spec: {replicas: 4, selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {` + here + `,
			topologySpreadConstraints: [{maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}}], containers: [{name: c, image: one}]}}}}`)
		f.awaitAll("pods?app=web", "items.size() == 4 && items.all(p, p.status.phase == 'Running') && items.filter(p, p.spec.nodeName == '$NS-2').size() == 2")
	},
	"a gate holds a pod until it is taken away": func(f *flow) {
		f.node("a")
		f.create(pod("gated", "schedulingGates: [{name: flow/gate}]"))
		f.await("pods/gated", "o.status.conditions.exists(c, c.type == 'PodScheduled' && c.status == 'False' && c.reason == 'SchedulingGated')")
		f.patch("pods/gated", "spec: {schedulingGates: null}")
		f.await("pods/gated", runs)
	},
	"who matters more takes the place of others, unless it is not to": func(f *flow) {
		node := f.node("a")
		f.patch("nodes/"+node+"/status", "status: {capacity: {cpu: '1'}, allocatable: {cpu: '1'}}")
		f.create("{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: $NS-high}, value: 1000}")
		f.create("{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: $NS-polite}, value: 1000, preemptionPolicy: Never}")
		f.create(asking("low", "600m", ""))
		f.await("pods/low", runs)
		f.create(asking("polite", "700m", "priorityClassName: $NS-polite"))
		f.await("pods/polite", unschedulable)
		f.awaitEvent("polite", "FailedScheduling", "Insufficient cpu")
		f.patch("pods/low", "metadata: {finalizers: [flow/held]}")
		f.create(asking("high", "600m", "priorityClassName: $NS-high"))
		f.await("pods/low", "has(o.metadata.deletionTimestamp) && o.status.conditions.exists(c, c.type == 'DisruptionTarget' && c.reason == 'PreemptionByScheduler')")
		f.awaitEvent("low", "Preempted", "Preempted by pod")
		f.patch("pods/low", "metadata: {finalizers: null}")
		f.await("pods/high", runs)
		f.await("pods/polite", unschedulable)
		f.delete("pods/high")
		f.await("pods/polite", runs)
	},
	"what does not fit anywhere waits for a node": func(f *flow) {
		f.create(asking("big", "2", ""))
		f.await("pods/big", unschedulable)
		f.awaitEvent("big", "FailedScheduling", "didn't match Pod's node affinity/selector")
		f.node("a")
		f.await("pods/big", runs)
	},
	"a port of the host is had once": func(f *flow) {
		f.node("a")
		port := func(name string) string {
			return strings.Replace(pod(name, ""), "image: one", "image: one, ports: [{containerPort: 80, hostPort: 8080}]", 1)
		}
		f.create(port("a"))
		f.await("pods/a", runs)
		f.create(port("b"))
		f.awaitEvent("b", "FailedScheduling", "didn't have free ports")
		f.delete("pods/a")
		f.await("pods/b", runs)
	},
	"a cordoned node gets nothing new": func(f *flow) {
		node := f.node("a")
		f.patch("nodes/"+node, "spec: {unschedulable: true}")
		f.await("nodes/"+node, "o.spec.taints.exists(t, t.key == 'node.kubernetes.io/unschedulable' && t.effect == 'NoSchedule')")
		f.create(strings.Replace(pod("p", ""), "{key: flow, operator: Exists}", "{key: flow, value: $NS}", 1))
		f.await("pods/p", unschedulable)
		f.patch("nodes/"+node, "spec: {unschedulable: null}")
		f.await("pods/p", runs)
	},
	"another profile fills nodes where the default spreads": func(f *flow) {
		for i := range 3 {
			f.node(fmt.Sprint(i))
		}
		for i := range 3 {
			f.create(asking(fmt.Sprint("p-", i), "500m", "schedulerName: packing"))
			f.await(fmt.Sprint("pods/p-", i), runs)
		}
		f.awaitAll("pods", "items.all(p, p.spec.nodeName == items[0].spec.nodeName)")
		f.awaitAll("events.events.k8s.io", "items.exists(e, e.reason == 'Scheduled' && e.reportingController == 'packing')")
	},
	"what every pod tolerates and what the system's classes are worth": func(f *flow) {
		f.await("priorityclasses/system-node-critical", "o.value == 2000001000")
		f.await("priorityclasses/system-cluster-critical", "o.value == 2000000000")
		f.create(pod("p", "priorityClassName: system-node-critical"))
		f.await("pods/p", `o.spec.priority == 2000001000 && ['not-ready', 'unreachable'].all(k, o.spec.tolerations.exists(t, t.key == 'node.kubernetes.io/' + k && t.effect == 'NoExecute' && t.tolerationSeconds == 300))`)
	},
}

// device is the manifest of a ResourceSlice with one device of a node.
func device(node, fields string) string {
	return fmt.Sprintf(`
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata: {name: $NS}
spec: {selectors: [{cel: {expression: "device.driver == '$NS.example.com'"}}]}
---
apiVersion: resource.k8s.io/v1
kind: ResourceSlice
metadata: {name: $NS}
spec: {driver: $NS.example.com, nodeName: %s, pool: {name: pool, generation: 1, resourceSliceCount: 1}, devices: [{name: gpu, %s}]}
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: template}
spec: {spec: {devices: {requests: [{name: r, exactly: {deviceClassName: $NS}}]}}}`, node, fields)
}

const claiming = "resourceClaims: [{name: r, resourceClaimTemplateName: template}]"

var devices = group{
	"a claim is made for a pod, allocated, and goes with it": func(f *flow) {
		f.node("a")
		b := f.node("b")
		f.create(device(b, "attributes: {size: {int: 7}}"))
		f.create(pod("p", claiming))
		f.await("pods/p", on(b)+" && has(o.status.resourceClaimStatuses[0].resourceClaimName)")
		claims := f.awaitAll("resourceclaims", "items.size() == 1 && items[0].status.allocation.devices.results[0].device == 'gpu' && items[0].status.reservedFor[0].name == 'p'")
		f.create(pod("q", claiming))
		f.await("pods/q", unschedulable)
		f.awaitEvent("q", "FailedScheduling", "cannot allocate all claims")
		f.delete("pods/p")
		f.gone("resourceclaims/" + claims[0].GetName())
		f.await("pods/q", on(b))
	},
	"a claim of its own stays when its pod goes, and is free again": func(f *flow) {
		f.create(device(f.node("a"), ""))
		f.create("{apiVersion: resource.k8s.io/v1, kind: ResourceClaim, metadata: {name: own}, spec: {devices: {requests: [{name: r, exactly: {deviceClassName: $NS}}]}}}")
		f.create(pod("p", "resourceClaims: [{name: r, resourceClaimName: own}]"))
		f.await("pods/p", runs)
		f.await("resourceclaims/own", "o.status.reservedFor.size() == 1 && 'resource.kubernetes.io/delete-protection' in o.metadata.finalizers")
		f.delete("pods/p")
		f.await("resourceclaims/own", "!has(o.status.reservedFor) && !has(o.status.allocation)")
	},
	"a taint of the device drives its pod out": func(f *flow) {
		f.create(device(f.node("a"), ""))
		f.create(pod("p", claiming))
		f.await("pods/p", runs)
		f.patch("resourceslices/$NS", "spec: {devices: [{name: gpu, taints: [{key: broken, value: 'yes', effect: NoExecute}]}]}")
		f.gone("pods/p")
		f.create(pod("q", claiming))
		f.await("pods/q", unschedulable)
	},
}
