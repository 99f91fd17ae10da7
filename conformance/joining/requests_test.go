package joining

import (
	"context"
	"net/http"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
)

// token is one of a service account that may get these subresources of nodes.
func token(t *testing.T, client kubernetes.Interface, name string, subresources ...string) string {
	t.Helper()
	ctx := t.Context()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}}
	if _, err := client.CoreV1().ServiceAccounts("default").Create(ctx, account, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if len(subresources) > 0 {
		rule := rbacv1.PolicyRule{APIGroups: []string{""}, Verbs: []string{"get"}}
		for _, s := range subresources {
			rule.Resources = append(rule.Resources, "nodes/"+s)
		}
		role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: []rbacv1.PolicyRule{rule}}
		if _, err := client.RbacV1().ClusterRoles().Create(ctx, role, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		binding := &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
			Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: name, Namespace: "default"}},
		}
		if _, err := client.RbacV1().ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	var made *authenticationv1.TokenRequest
	if err := wait.PollUntilContextTimeout(ctx, patience/1000, patience, true, func(ctx context.Context) (bool, error) {
		var err error
		made, err = client.CoreV1().ServiceAccounts("default").CreateToken(ctx, name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
		return err == nil, nil
	}); err != nil {
		t.Fatal(err)
	}
	return made.Status.Token
}

// requests are those that are sent to both nodes.
func requests(nobody, measures string) []asked {
	upgrade := http.Header{"Connection": {"Upgrade"}, "Upgrade": {"SPDY/3.1"}, "X-Stream-Protocol-Version": {"v4.channel.k8s.io"}}
	asJSON := func(kind string) http.Header {
		return http.Header{"Accept": {"application/json;v=v1beta1;g=config.k8s.io;as=" + kind}}
	}
	all := []asked{
		{path: "/pods", as: fields},
		{path: "/pods/", as: fields},
		{method: http.MethodPost, path: "/pods", as: status},
		{path: "/pods/none", as: status},
		{path: "/runningpods/", as: fields},
		{path: "/runningpods", as: status},
		{path: "/stats/summary", as: fields},
		{path: "/stats/summary?only_cpu_and_memory=true", as: fields},
		{path: "/stats/summary?only_cpu_and_memory=false", as: fields},
		{method: http.MethodPost, path: "/stats/summary", as: fields},
		{path: "/stats/", as: status},
		{path: "/stats/container", as: status},
		{path: "/metrics", as: families},
		{path: "/metrics/resource", as: families},
		{path: "/metrics/cadvisor", as: families},
		{path: "/metrics/probes", as: families},
		{path: "/metrics/slis", as: families},
		{path: "/metrics/none", as: status},
		{path: "/healthz"},
		{path: "/healthz/ping"},
		{path: "/healthz/log"},
		{path: "/healthz/syncloop"},
		{path: "/healthz/none"},
		{path: "/healthz?verbose", as: status},
		{path: "/configz", as: fields},
		{path: "/flagz", as: status},
		{path: "/flagz", header: asJSON("Flagz"), as: status},
		{path: "/statusz", as: status},
		{path: "/statusz", header: asJSON("Statusz"), as: status},
		{path: "/logs/", as: status},
		{path: "/logs", as: status},
		{path: "/logs/none"},
		{path: "/logs/pods/", as: status},
		{path: "/logs/?query=kubelet", as: status},
		{path: "/debug/pprof/cmdline", as: status},
		{path: "/debug/pprof/symbol", as: status},
		{path: "/debug/pprof/goroutine?debug=1", as: status},
		{path: "/debug/flags/v"},
		{method: http.MethodPut, path: "/debug/flags/v", body: "x"},
		{method: http.MethodPut, path: "/debug/flags/v", body: "1"},
		{path: "/nothing"},
		{path: "/", as: words},
		{path: "/spec/", as: status},
		{path: "/cri/", as: status},
		{method: http.MethodPost, path: "/checkpoint/NODE/web/none"},
		{method: http.MethodPost, path: "/checkpoint/NODE/none/says"},
		{method: http.MethodPost, path: "/checkpoint/NODE/web/says?timeout=x"},
		{path: "/checkpoint/NODE/web/says", as: status},
	}
	for _, query := range []string{
		"", "?tailLines=2", "?tailLines=0", "?tailLines=x", "?tailLines=-1", "?tail=2", "?tail=all", "?limitBytes=7", "?limitBytes=0", "?limitBytes=-1", "?timestamps=true",
		"?timestamps=maybe", "?previous=true", "?sinceSeconds=3600", "?sinceSeconds=0", "?sinceSeconds=-1", "?sinceTime=yesterday", "?sinceTime=2020-01-01T00:00:00Z",
		"?sinceTime=2020-01-01T00:00:00Z&sinceSeconds=5", "?sinceTime=2100-01-01T00:00:00Z", "?stream=All", "?stream=Nonsense", "?other=1", "?follow=false",
		"?stream=Stdout&tailLines=1",
	} {
		all = append(all, asked{path: "/containerLogs/NODE/web/says" + query})
	}
	for _, path := range []string{
		"/web/again", "/web/again?previous=true", "/web/first", "/web/first?previous=true", "/web/never", "/web/never?previous=true", "/web/none", "/none/says", "/web/tty",
	} {
		all = append(all, asked{path: "/containerLogs/NODE" + path})
	}
	all = append(all, asked{path: "/containerLogs/NODE/web/", as: status}, asked{path: "/containerLogs/NODE/web", as: status})
	for _, kind := range []string{"/exec", "/attach"} {
		for _, query := range []string{
			"/NODE/web/says?command=true&output=1", "/NODE/web/says?command=true", "/NODE/web/says", "/NODE/web/none?command=true&output=1", "/NODE/web/never?command=true&output=1",
			"/NODE/none/says?command=true&output=1", "/NODE/web/POD/says?command=true&output=1", "/NODE/web/tty?output=1&tty=1&input=1&error=1",
		} {
			all = append(all, asked{method: http.MethodPost, path: kind + query})
			all = append(all, asked{path: kind + query})
		}
		all = append(all, asked{method: http.MethodPost, path: kind + "/NODE/web/none?command=true&output=1", header: upgrade},
			asked{method: http.MethodDelete, path: kind + "/NODE/web/says?command=true&output=1", as: status})
	}
	for _, query := range []string{"/NODE/web", "/NODE/none", "/NODE/web/POD", "/NODE/web/other", "/NODE/web?port=80", "/NODE/web?port=x"} {
		all = append(all, asked{method: http.MethodPost, path: "/portForward" + query})
	}
	for _, query := range []string{
		"/NODE/web/says?cmd=echo+hello+there", "/NODE/web/says?cmd=false", "/NODE/web/says?cmd=none-such", "/NODE/web/none?cmd=true", "/NODE/none/says?cmd=true",
		"/NODE/web/POD/says?cmd=echo+hello", "/NODE/web/says",
	} {
		all = append(all, asked{method: http.MethodPost, path: "/run" + query})
	}
	all = append(all, asked{path: "/run/NODE/web/says?cmd=true", as: status})
	for _, path := range []string{
		"/pods", "/healthz", "/healthz/ping", "/configz", "/stats/summary", "/metrics", "/metrics/cadvisor", "/metrics/slis", "/logs/", "/containerLogs/NODE/web/says",
		"/runningpods/", "/flagz", "/statusz", "/debug/pprof/", "/debug/flags/v", "/exec/NODE/web/says?command=true&output=1", "/checkpoint/NODE/web/says",
	} {
		for _, who := range []string{"-", nobody, measures, "wrong"} {
			a := asked{path: path, token: who}
			if who == measures {
				a.as = status
			}
			all = append(all, a)
		}
	}
	return all
}

// What is not the same, and is meant. Names are those of fields or series, by paths: what the agent lacks, and what the kubelet lacks.
var (
	lacking = map[string][]string{
		"/pods": {`.*\.managedFields\[\].*`},
		// Of cgroups of version 1 the runtime says nothing of pressure, input and output, and swap.
		"/stats/summary":    {`.*\.(psi|io|swap)\..*`},
		"/metrics/resource": {`.*_swap_.*`},
		"/metrics": {
			`(aggregator|apiserver|authentication|authorization|cardinality|dra|force_cleaned|go|reconstruct|volume_operation|workqueue)_.*`,
			`(disabled|hidden|registered)_metrics_total.*`, `kubernetes_feature_enabled.*`, `rest_client_(exec|rate|request_size|response_size|transport)_.*`,
			`kubelet_(container_log_filesystem|containers_per_pod|cpu_manager|evented_pleg|first_network_pod|graceful_shutdown|image|image_manager|image_pull|imagemanager|image_volume)_.*`,
			`kubelet_(lifecycle_handler|memory_manager|metrics_provider|node_startup|orphan_pod|orphaned_runtime|pleg_discard|pleg_pod|pod_in_progress|pod_status_sync|pod_start_sli)_?.*`,
			`kubelet_(managed_ephemeral|pod_watch|pod_worker_start|restarted_pods|sleep_action|started_user_namespaced|terminated_containers|topology_manager|volume_metric|working_pods)_?.*`,
			`kubelet_eviction_stats_age_seconds.*`,
		},
		// What runtimes do not measure.
		"/metrics/cadvisor": {
			`cadvisor_version_info.*`, `container_(cpu_load|fs|health|oom|pressure|spec|tasks|ulimits)_.*`,
			`machine_(cpu_books|cpu_drawers|cpu_physical_cores|cpu_sockets|dimm|node|nvm|swap|thread)_?.*`,
		},
		"/metrics/probes": {`process_start_time_seconds.*`},
		"/configz": { // of what there is not, or only one way
			`.*\.(clientCAFile|containerLogMaxWorkers|cpuManagerReconcilePeriod|enableControllerAttachDetach|topologyManagerScope|volumePluginDir|maxOpenFiles|oomScoreAdj)`,
			`.*\.(fileCheckFrequency|httpCheckFrequency|syncFrequency|hairpinMode|healthz.*|iptables.*|makeIPTablesUtilChains|streamingConnectionIdleTimeout)`,
			`.*\.(imageMaximumGCAge|shutdownGracePeriod.*|memoryReservationPolicy|memoryThrottlingFactor|mergeDefaultEvictionSettings)`,
			`.*\.(logging|crashLoopBackOff)\..*`,
		},
	}
	having = map[string][]string{
		"/stats/summary":    {`.*\.(psi|io|swap)\..*`, `\.pods\[\]\.(volume\[\]|process_stats)\..*`, `\.pods\[\]\.memory\.availableBytes`, `.*\.usageNanoCores`},
		"/metrics":          {`rowlock_.*`},
		"/metrics/cadvisor": {`container_(cpu_cfs|fs|memory|spec)_.*`},
		"/configz":          {`.*\.(clusterDomain|maxParallelImagePulls|singleProcessOOMKill|swapBehavior)`},
	}
)
