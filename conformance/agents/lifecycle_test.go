package agents

import (
	"fmt"
	"slices"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// soon are flags by which it is soon noticed that a node is gone, with nodes that a cloud has to introduce.
var soon = []string{
	"--controllers=*", "--node-monitor-period=1s", "--node-monitor-grace-period=15s", "--node-startup-grace-period=15s", "--cloud-provider=external",
	"--terminated-pod-gc-threshold=2",
}

// TestLifecycle runs what is about nodes that go and come again, and what would disturb the other flows.
func TestLifecycle(t *testing.T) {
	flows := map[string]group{"lifecycle": {
		"nodes that are switched off lose their pods, and come again": switchedOff,
		"a node waits for its cloud":                                  uninitialized,
		"of pods that have ended the oldest go":                       terminated,
		"an API server that is down holds a namespace, which is told": discoveryFails,
	}, "Service": services}
	run(t, func(harness.Target) map[string]group { return flows }, func(t *testing.T, target harness.Target) (*harness.Cluster, *harness.Server) {
		cluster := target.NewCluster(t)
		if target.IsRowlock() {
			return cluster, cluster.StartServer(t, append(soon, "--scheduler")...)
		}
		server := cluster.StartServer(t)
		cluster.StartControllers(t, server, soon...)
		cluster.StartScheduler(t, server)
		return cluster, server
	}, harness.SQLite, harness.KubeAPIServer)
}

// machine is a node whose kubelet the flow plays: alive until the flow is over, and nothing runs on it.
func (f *flow) machine(name, taints string) string {
	f.Helper()
	name = f.ns + "-" + name
	f.create(fmt.Sprintf("{apiVersion: v1, kind: Node, metadata: {name: %s, labels: {machine: $NS}}, spec: {taints: [%s]}}", name, taints))
	leases := f.client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	now := metav1.NowMicro()
	_, err := leases.Create(f.Context(), &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: coordinationv1.LeaseSpec{HolderIdentity: &name, RenewTime: &now},
	}, metav1.CreateOptions{})
	f.check(err)
	f.patch("nodes/"+name+"/status", "status: {capacity: {cpu: '4', memory: 4Gi, pods: '10'}, allocatable: {cpu: '4', memory: 4Gi, pods: '10'}, conditions: [{type: Ready, status: 'True', reason: KubeletReady}]}")
	beat := time.NewTicker(2 * time.Second)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-beat.C:
			case <-f.Context().Done():
				return
			}
			lease, err := leases.Get(f.Context(), name, metav1.GetOptions{})
			if err == nil {
				now := metav1.NowMicro()
				lease.Spec.RenewTime = &now
				_, err = leases.Update(f.Context(), lease, metav1.UpdateOptions{})
			}
			if err != nil && f.Context().Err() == nil {
				f.Errorf("renewing the lease of %s: %v", name, err)
			}
		}
	}()
	f.Cleanup(func() {
		beat.Stop()
		<-ended
	})
	return name
}

func switchedOff(f *flow) {
	f.machine("alive", "") // where nothing is alive any more, nothing is driven out
	simulation := f.cluster.Simulate(f.T, f.server.Kubeconfig, 2)
	for _, name := range []string{"sim-0", "sim-1"} {
		f.await("nodes/"+name, usable)
	}
	spec := func(name, pod string) string {
		return fmt.Sprintf(`spec: {selector: {matchLabels: {app: %s}}, template: {metadata: {labels: {app: %s}}, spec: {nodeSelector: {rowlock.io/simulated: 'true'}, containers: [{name: c, image: one}], %s}}}`, name, name, pod)
	}
	impatient := "tolerations: [{key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 1}]"
	f.create("{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, " + spec("web", impatient) + "}")
	f.create("{apiVersion: apps/v1, kind: Deployment, metadata: {name: patient}, " + spec("patient", "restartPolicy: Always") + "}")
	f.create("{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: ds}, " + spec("ds", "restartPolicy: Always") + "}")
	f.create(service("clusterIP: None, selector: {app: web}"))
	f.await("deployments/web", "o.status.availableReplicas == 1")
	f.await("deployments/patient", "o.status.availableReplicas == 1")
	f.await("daemonsets/ds", "o.status.numberReady == 2")
	old := f.awaitAll("pods?app=web", "items.size() == 1")[0].GetName()

	simulation.Kill()
	for _, name := range []string{"sim-0", "sim-1"} {
		f.await("nodes/"+name, `o.status.conditions.exists(c, c.type == 'Ready' && c.status == 'Unknown' && c.reason == 'NodeStatusUnknown') &&
			['NoSchedule', 'NoExecute'].all(e, o.spec.taints.exists(t, t.key == 'node.kubernetes.io/unreachable' && t.effect == e))`)
	}
	f.await("pods/"+old, "o.status.conditions.exists(c, c.type == 'Ready' && c.status == 'False') && has(o.metadata.deletionTimestamp)")
	f.awaitAll("pods?app=web", "items.size() == 2 && items.exists(p, p.metadata.name != '"+old+"' && p.status.phase == 'Pending')")
	f.await("deployments/web", "o.status.unavailableReplicas == 1 && o.status.conditions.exists(c, c.type == 'Available' && c.status == 'False')")
	f.awaitAll(webSlices, "items.all(s, !has(s.endpoints) || s.endpoints == null || s.endpoints.all(e, !e.conditions.ready))")
	f.awaitAll("pods?app=patient", "items.size() == 1 && !has(items[0].metadata.deletionTimestamp)")
	f.awaitAll("pods?app=ds", "items.size() == 2 && items.all(p, !has(p.metadata.deletionTimestamp))")
	f.await("daemonsets/ds", "o.status.numberMisscheduled == 2 && o.status.numberReady == 0")

	// Who knows that the machines are off lets go of what ran there.
	for _, name := range []string{"sim-0", "sim-1"} {
		f.taint(name, corev1.Taint{Key: corev1.TaintNodeOutOfService, Effect: corev1.TaintEffectNoExecute})
	}
	f.gone("pods/" + old)

	f.cluster.Simulate(f.T, f.server.Kubeconfig, 2)
	for _, name := range []string{"sim-0", "sim-1"} {
		f.await("nodes/"+name, "o.status.conditions.exists(c, c.type == 'Ready' && c.status == 'True')")
		f.taint(name)
		f.await("nodes/"+name, usable)
	}
	f.await("deployments/web", "o.status.availableReplicas == 1")
	f.await("deployments/patient", "o.status.availableReplicas == 1")
	f.await("daemonsets/ds", "o.status.numberReady == 2")
}

// taint gives a node a taint, beside those of the loops, or takes it away again.
func (f *flow) taint(node string, taints ...corev1.Taint) {
	f.Helper()
	f.wait(func() bool {
		n, err := f.client.CoreV1().Nodes().Get(f.Context(), node, metav1.GetOptions{})
		f.check(err)
		all := slices.Clone(taints)
		for _, t := range n.Spec.Taints {
			if t.Key != corev1.TaintNodeOutOfService {
				all = append(all, t)
			}
		}
		n.Spec.Taints = all
		_, err = f.client.CoreV1().Nodes().Update(f.Context(), n, metav1.UpdateOptions{})
		return err == nil
	}, func() string { return "the taints of " + node })
}

func uninitialized(f *flow) {
	node := f.machine("new", "{key: node.cloudprovider.kubernetes.io/uninitialized, value: 'true', effect: NoSchedule}")
	selected := func(name, fields string) string {
		return fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: %s}, spec: {nodeSelector: {machine: $NS}, containers: [{name: c, image: one}], %s}}", name, fields)
	}
	f.create(selected("user", "restartPolicy: Always"))
	f.awaitEvent("user", "FailedScheduling", "untolerated taint")
	f.create(selected("manager", "tolerations: [{key: node.cloudprovider.kubernetes.io/uninitialized, operator: Exists}]"))
	f.await("pods/manager", "o.spec.nodeName == '"+node+"'")
	f.await("nodes/"+node, "o.spec.taints.exists(t, t.key == 'node.cloudprovider.kubernetes.io/uninitialized')")
	f.patch("nodes/"+node, "spec: {providerID: 'cloud://new', taints: null}") // as its cloud's manager does
	f.await("pods/user", "o.spec.nodeName == '"+node+"'")
	f.delete("nodes/" + node) // of too many nodes that are gone no pod would be driven out
}

func terminated(f *flow) {
	for i := range 4 {
		name := fmt.Sprint("p-", i)
		f.create(fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: %s}, spec: {schedulerName: nobody, restartPolicy: Never, containers: [{name: c, image: one}]}}", name))
		f.ended(name, 0)
	}
	f.awaitAll("pods", "items.size() == 2")
}

func discoveryFails(f *flow) {
	f.create("{apiVersion: v1, kind: Service, metadata: {name: down}, spec: {clusterIP: None, ports: [{port: 443}]}}")
	f.create(`{apiVersion: apiregistration.k8s.io/v1, kind: APIService, metadata: {name: v1.$NS.example.com}, spec: {group: $NS.example.com, version: v1, insecureSkipTLSVerify: true,
		groupPriorityMinimum: 100, versionPriority: 100, service: {namespace: $NS, name: down}}}`)
	f.await("apiservices/v1.$NS.example.com", "o.status.conditions.exists(c, c.type == 'Available' && c.status == 'False')")
	f.create("{apiVersion: v1, kind: Namespace, metadata: {name: $NS-x}}")
	f.delete("namespaces/$NS-x")
	f.await("namespaces/$NS-x", "o.status.conditions.exists(c, c.type == 'NamespaceDeletionDiscoveryFailure' && c.status == 'True' && c.message.contains('$NS.example.com/v1'))")
	f.delete("apiservices/v1.$NS.example.com")
	f.gone("namespaces/$NS-x")
}
