package agents

import "strings"

var nodes = group{
	"each gets a range of addresses, and how long what kubelets know is good": func(f *flow) {
		for _, name := range []string{"a", "b", "c"} {
			f.await("nodes/"+f.node(name), "o.spec.podCIDR.startsWith('10.24') && o.spec.podCIDRs == [o.spec.podCIDR] && o.metadata.annotations['node.alpha.kubernetes.io/ttl'] == '0'")
		}
	},
	"a taint drives pods out, after the time that they tolerate it": func(f *flow) {
		node := f.node("a")
		tolerating := func(name, fields string) {
			f.create(strings.Replace(pod(name, ""), "{key: flow, operator: Exists}", "{key: flow, value: $NS, effect: NoSchedule}, "+fields, 1))
			f.await("pods/"+name, runs)
		}
		tolerating("not", "{key: other, operator: Exists}")
		tolerating("short", "{key: fire, operator: Exists, effect: NoExecute, tolerationSeconds: 2}")
		tolerating("long", "{key: fire, operator: Exists, effect: NoExecute, tolerationSeconds: 3600}")
		tolerating("always", "{key: fire, operator: Exists}")
		f.patch("nodes/"+node, "spec: {taints: [{key: flow, value: $NS, effect: NoSchedule}, {key: fire, effect: NoExecute}]}")
		f.gone("pods/not")
		f.awaitEvent("not", "TaintManagerEviction", "Marking for deletion Pod $NS/not")
		f.gone("pods/short")
		f.awaitAll("pods", "items.size() == 2 && items.all(p, p.status.phase == 'Running' && !has(p.metadata.deletionTimestamp))")
		// Who is bound there all the same goes too.
		f.create("{apiVersion: v1, kind: Pod, metadata: {name: forced}, spec: {nodeName: " + node + ", containers: [{name: c, image: one}]}}")
		f.gone("pods/forced")
	},
	"pods of a node that is gone go": func(f *flow) {
		node := f.node("a")
		f.create(`{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: web}, spec: {replicas: 1, selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {` + here + `, containers: [{name: c, image: one}]}}}}`)
		p := f.awaitAll("pods?app=web", "items.size() == 1 && items[0].status.phase == 'Running'")[0].GetName()
		f.delete("nodes/" + node)
		f.gone("pods/" + p)
		f.awaitAll("pods?app=web", "items.size() == 1 && items[0].status.phase == 'Pending'")
	},
	"a pod that is deleted before it had a node is gone": func(f *flow) {
		f.create(pod("p", ""))
		f.await("pods/p", unschedulable)
		f.delete("pods/p")
		f.gone("pods/p")
	},
}
