package agents

import corev1 "k8s.io/api/core/v1"

// slices of the Service "web".
const webSlices = "endpointslices?kubernetes.io/service-name=web"

func service(fields string) string {
	return "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [{name: http, port: 80, targetPort: 8080}], " + fields + "}}"
}

var endpoints = group{
	"readiness and deletion of pods show": func(f *flow) {
		f.create(service("selector: {app: web}"))
		f.create(`{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: web}, spec: {replicas: 2, selector: {matchLabels: {app: web}}, template: ` + gated + `}}`)
		pods := f.awaitAll("pods?app=web", "items.size() == 2 && items.all(p, p.status.phase == 'Running')")
		f.awaitAll(webSlices, "items.size() == 1 && items[0].endpoints.size() == 2 && items[0].endpoints.all(e, !e.conditions.ready && !e.conditions.serving && !e.conditions.terminating)")
		f.await("endpoints/web", "o.subsets[0].notReadyAddresses.size() == 2 && !has(o.subsets[0].addresses)")
		a := pods[0].GetName()
		f.open(a, corev1.ConditionTrue)
		ip := f.get("pods/" + a).Object["status"].(map[string]any)["podIP"].(string)
		f.awaitAll(webSlices, "items[0].endpoints.exists_one(e, e.conditions.ready && e.targetRef.name == '"+a+"' && e.addresses == ['"+ip+"'] && has(e.nodeName)) && items[0].ports[0].port == 8080 && items[0].ports[0].name == 'http'")
		f.await("endpoints/web", "o.subsets[0].addresses.exists_one(a, a.ip == '"+ip+"')")
		f.open(a, corev1.ConditionFalse)
		f.awaitAll(webSlices, "items[0].endpoints.all(e, !e.conditions.ready)")
		f.delete("replicasets/web")
		f.awaitAll(webSlices, "items.all(s, !has(s.endpoints) || s.endpoints == null || s.endpoints.size() == 0)")
		f.delete("services/web")
		f.awaitAll(webSlices, "items.size() == 0")
		f.gone("endpoints/web")
	},
	"headless, with pods that are not ready and have names": func(f *flow) {
		f.create(service("clusterIP: None, publishNotReadyAddresses: true, selector: {app: web}"))
		f.create(`{apiVersion: v1, kind: Pod, metadata: {name: p, labels: {app: web}}, spec: {hostname: host, subdomain: web, readinessGates: [{conditionType: flow/open}], containers: [{name: c, image: one}]}}`)
		f.awaitAll(webSlices, "items.size() == 1 && items[0].endpoints[0].conditions.ready && items[0].endpoints[0].hostname == 'host' && 'service.kubernetes.io/headless' in items[0].metadata.labels")
		f.await("endpoints/web", "o.subsets[0].addresses[0].hostname == 'host' && 'service.kubernetes.io/headless' in o.metadata.labels")
	},
	"another selector, another port": func(f *flow) {
		f.create(service("selector: {app: a}"))
		for _, name := range []string{"a", "b"} {
			f.create(`{apiVersion: v1, kind: Pod, metadata: {name: ` + name + `, labels: {app: ` + name + `}}, spec: {containers: [{name: c, image: one, ports: [{name: named, containerPort: 7}]}]}}`)
		}
		f.awaitAll(webSlices, "items[0].endpoints.size() == 1 && items[0].endpoints[0].targetRef.name == 'a'")
		f.patch("services/web", "spec: {selector: {app: b}, ports: [{name: http, port: 80, targetPort: named}]}")
		f.awaitAll(webSlices, "items.size() == 1 && items[0].endpoints.size() == 1 && items[0].endpoints[0].targetRef.name == 'b' && items[0].ports[0].port == 7")
		f.patch("services/web", "spec: {selector: {app: nobody}}")
		f.awaitAll(webSlices, "items.all(s, !has(s.endpoints) || s.endpoints == null || s.endpoints.size() == 0)")
	},
	"Endpoints made by hand are mirrored": func(f *flow) {
		f.create(service("clusterIP: None"))
		f.create("{apiVersion: v1, kind: Endpoints, metadata: {name: web, labels: {a: b}}, subsets: [{addresses: [{ip: 192.0.2.1}, {ip: '2001:db8::1'}], ports: [{name: http, port: 8080}]}]}")
		f.awaitAll(webSlices, "items.size() == 2 && items.all(s, s.metadata.labels['endpointslice.kubernetes.io/managed-by'] == 'endpointslicemirroring-controller.k8s.io' && s.metadata.labels['a'] == 'b')")
		f.awaitAll(webSlices, "items.exists(s, s.addressType == 'IPv6' && s.endpoints[0].addresses == ['2001:db8::1']) && items.exists(s, s.addressType == 'IPv4')")
		f.patch("endpoints/web", "subsets: [{addresses: [{ip: 192.0.2.2}], ports: [{name: http, port: 8080}]}]")
		f.awaitAll(webSlices, "items.size() == 1 && items[0].endpoints[0].addresses == ['192.0.2.2']")
		f.delete("endpoints/web")
		f.awaitAll(webSlices, "items.size() == 0")
	},
}

// services are where nothing else takes an address: it might be of the range that is about to go.
var services = group{
	"an address that was taken away by hand is recorded again": func(f *flow) {
		f.create(service("clusterIP: 10.96.7.7"))
		f.await("ipaddresses/10.96.7.7", "o.spec.parentRef.name == 'web'")
		f.delete("ipaddresses/10.96.7.7")
		f.patch("services/web", "metadata: {labels: {looked: at}}")
		f.await("ipaddresses/10.96.7.7", "o.spec.parentRef.name == 'web' && !has(o.metadata.deletionTimestamp)")
	},
	"another range of addresses may be added, used, and not go while it is": func(f *flow) {
		f.create("{apiVersion: networking.k8s.io/v1, kind: ServiceCIDR, metadata: {name: $NS}, spec: {cidrs: [172.31.7.0/29]}}")
		f.await("servicecidrs/$NS", "o.status.conditions.exists(c, c.type == 'Ready' && c.status == 'True') && 'networking.k8s.io/service-cidr-finalizer' in o.metadata.finalizers")
		f.wait(func() bool {
			_, err := f.try(service("clusterIP: 172.31.7.3"))
			return err == nil
		}, func() string { return "an address of the new range to be given" })
		f.await("ipaddresses/172.31.7.3", "o.spec.parentRef.name == 'web' && o.spec.parentRef.namespace == '$NS'")
		f.delete("servicecidrs/$NS")
		f.await("servicecidrs/$NS", "o.status.conditions.exists(c, c.type == 'Ready' && c.status == 'False' && c.reason == 'Terminating')")
		f.delete("services/web")
		f.gone("ipaddresses/172.31.7.3")
		f.gone("servicecidrs/$NS")
	},
}
