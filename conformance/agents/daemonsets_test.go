package agents

import "fmt"

// daemonSet runs on the flow's nodes, tolerating all but what further fields of the pods' spec say.
func daemonSet(fields, pod string) string {
	return fmt.Sprintf(`{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: ds}, spec: {selector: {matchLabels: {app: ds}}, %s,
		template: {metadata: {labels: {app: ds}}, spec: {%s, containers: [{name: c, image: one}]}}}}`, fields, pod)
}

var daemonSets = group{
	"a pod comes with each node that is selected, and goes with its label": func(f *flow) {
		f.create(daemonSet("minReadySeconds: 0", here))
		f.await("daemonsets/ds", "o.status.observedGeneration == 1 && o.status.desiredNumberScheduled == 0")
		a, b := f.node("a"), f.node("b")
		f.await("daemonsets/ds", "o.status.desiredNumberScheduled == 2 && o.status.numberAvailable == 2")
		f.awaitAll("pods?app=ds", fmt.Sprintf("items.map(p, p.spec.nodeName).all(n, n in ['%s', '%s'])", a, b))
		f.patch("nodes/"+a, "metadata: {labels: {flow: other}}")
		f.await("daemonsets/ds", "o.status.desiredNumberScheduled == 1 && o.status.currentNumberScheduled == 1 && o.status.numberMisscheduled == 0")
		f.awaitAll("pods?app=ds", "items.size() == 1 && items[0].spec.nodeName == '"+b+"'")
	},
	"a taint keeps it away, and NoExecute drives it out": func(f *flow) {
		node := f.node("a")
		f.create(daemonSet("minReadySeconds: 0", "nodeSelector: {flow: $NS}"))
		f.await("daemonsets/ds", "o.status.observedGeneration == 1 && o.status.desiredNumberScheduled == 0")
		f.patch("daemonsets/ds", "spec: {template: {spec: {tolerations: [{key: flow, operator: Exists, effect: NoSchedule}]}}}")
		f.await("daemonsets/ds", "o.status.numberReady == 1")
		f.patch("nodes/"+node, "spec: {taints: [{key: flow, value: $NS, effect: NoSchedule}, {key: flow, value: out, effect: NoExecute}]}")
		f.await("daemonsets/ds", "o.status.desiredNumberScheduled == 0 && o.status.currentNumberScheduled == 0")
		f.awaitAll("pods?app=ds", "items.size() == 0")
	},
	"it is updated node by node, or where pods are deleted": func(f *flow) {
		for i := range 3 {
			f.node(fmt.Sprint(i))
		}
		f.create(daemonSet("updateStrategy: {rollingUpdate: {maxUnavailable: 1}}", here))
		f.await("daemonsets/ds", "o.status.numberAvailable == 3")
		f.patch("daemonsets/ds", "spec: {template: {spec: {readinessGates: [{conditionType: flow/open}], containers: [{name: c, image: two}]}}}")
		f.await("daemonsets/ds", "o.status.updatedNumberScheduled == 1 && o.status.numberUnavailable == 1 && o.status.numberReady == 2")
		f.wait(func() bool {
			f.openAll("app=ds")
			d := f.get("daemonsets/ds")
			return f.compile("o.status.updatedNumberScheduled == 3 && o.status.numberAvailable == 3")(map[string]any{"o": d.Object, "items": nil}) == nil
		}, func() string { return "the update's end: " + show(f.get("daemonsets/ds")) })
		f.patch("daemonsets/ds", "spec: {updateStrategy: {type: OnDelete, rollingUpdate: null}, template: {spec: {readinessGates: null, containers: [{name: c, image: three}]}}}")
		f.await("daemonsets/ds", "o.status.observedGeneration == 3 && !has(o.status.updatedNumberScheduled)")
		pods := f.awaitAll("pods?app=ds", "items.all(p, p.spec.containers[0].image == 'two')")
		f.delete("pods/" + pods[0].GetName())
		f.await("daemonsets/ds", "o.status.updatedNumberScheduled == 1 && o.status.numberAvailable == 3")
		f.awaitAll("controllerrevisions?app=ds", "items.size() == 3")
	},
	"it stays on nodes that are unschedulable or not ready": func(f *flow) {
		node := f.node("a")
		f.patch("nodes/"+node, "spec: {unschedulable: true}")
		f.await("nodes/"+node, "o.spec.taints.exists(t, t.key == 'node.kubernetes.io/unschedulable')")
		f.create(daemonSet("minReadySeconds: 0", here))
		f.await("daemonsets/ds", "o.status.numberReady == 1")
		f.awaitAll("pods?app=ds", "items[0].spec.tolerations.exists(t, t.key == 'node.kubernetes.io/not-ready' && t.effect == 'NoExecute' && !has(t.tolerationSeconds))")
	},
}
