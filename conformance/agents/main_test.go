package agents

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// all are the flows that need no special server.
var all = map[string]group{
	"Deployment": deployments, "ReplicaSet": replicaSets, "StatefulSet": statefulSets, "DaemonSet": daemonSets,
	"Job": jobs, "CronJob": cronJobs, "PodDisruptionBudget": disruption, "ResourceQuota": quotas,
	"Endpoints": endpoints, "ServiceAccount": accounts, "certificates": certificates,
	"volumes": volumes, "nodes": nodes, "garbage": garbage, "Namespace": namespaces,
	"scheduling": scheduling, "devices": devices, "autoscaling": autoscaling, "policies": policies,
}

// flags are kube-controller-manager's, so that flows are soon over.
var flags = []string{
	"--controllers=*,bootstrap-signer-controller,token-cleaner-controller", "--horizontal-pod-autoscaler-sync-period=1s",
	"--allocate-node-cidrs", "--cluster-cidr=10.240.0.0/12",
}

const (
	withTokens     = "--enable-bootstrap-token-auth"
	simulatedNodes = 3
)

// TestFlows runs all flows with "rowlock up", or upstream's components.
func TestFlows(t *testing.T) {
	run(t, func(target harness.Target) map[string]group {
		if target.IsRowlock() {
			return all
		}
		some := maps.Clone(all)
		delete(some, "certificates") // the harness gives the peer no authority
		return some
	}, func(t *testing.T, target harness.Target) (*harness.Cluster, *harness.Server) {
		cluster := target.NewCluster(t)
		if target.IsRowlock() {
			inside := append(slices.Clone(flags), withTokens, "--scheduler", "--scheduler-config="+profiles(t, cluster, ""))
			return cluster, cluster.StartServer(t, append(inside, harness.SimulationFlags(simulatedNodes, 0)...)...)
		}
		server := cluster.StartServer(t, withTokens, "--enable-aggregator-routing")
		cluster.StartControllers(t, server, flags...)
		cluster.StartScheduler(t, server, "--config="+profiles(t, cluster, "clientConnection: {kubeconfig: "+server.Kubeconfig+", qps: 300, burst: 600}\nleaderElection: {leaderElect: false}\n"))
		cluster.Simulate(t, server.Kubeconfig, simulatedNodes)
		return cluster, server
	}, harness.SQLite, harness.KubeAPIServer)
}

// TestFlowsOnPostgres runs a sample with "rowlock server" and "rowlock simulate".
func TestFlowsOnPostgres(t *testing.T) {
	run(t, func(harness.Target) map[string]group {
		sample := map[string]group{}
		for subject, flows := range all {
			first := slices.Min(slices.Collect(maps.Keys(flows)))
			sample[subject] = group{first: flows[first]}
		}
		return sample
	}, func(t *testing.T, target harness.Target) (*harness.Cluster, *harness.Server) {
		cluster := target.NewCluster(t)
		server := cluster.StartServer(t, append(slices.Clone(flags), withTokens, "--scheduler", "--scheduler-config="+profiles(t, cluster, ""))...)
		cluster.Simulate(t, server.Kubeconfig, simulatedNodes)
		return cluster, server
	}, harness.OnPostgres)
}

// profiles writes the scheduler's configuration, with further lines, and returns its file.
func profiles(t *testing.T, cluster *harness.Cluster, lines string) string {
	t.Helper()
	file := filepath.Join(cluster.Dir, "scheduler.yaml")
	if err := os.WriteFile(file, []byte(`apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
profiles:
- schedulerName: default-scheduler
- schedulerName: packing
  plugins:
    multiPoint: {disabled: [{name: NodeResourcesBalancedAllocation}, {name: ImageLocality}]}
  pluginConfig:
  - name: NodeResourcesFit
    args: {scoringStrategy: {type: MostAllocated, resources: [{name: cpu, weight: 1}]}}
`+lines), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
