package read

import "k8s.io/apimachinery/pkg/runtime/schema"

// steady are the resources whose rows change with the object only, but for the column "Age" that counts from
// creationTimestamp; rows that do not are told by row.keep. Upstream's printers show no sign of it, so they are named here,
// and a test holds the printers to it.
var steady = func() map[schema.GroupResource]bool {
	m := map[schema.GroupResource]bool{}
	for group, resources := range map[string][]string{
		"": {
			"configmaps", "endpoints", "namespaces", "nodes", "persistentvolumeclaims", "persistentvolumes", "pods",
			"podtemplates", "replicationcontrollers", "resourcequotas", "secrets", "serviceaccounts", "services",
		},
		"apps":                      {"controllerrevisions", "daemonsets", "deployments", "replicasets", "statefulsets"},
		"autoscaling":               {"horizontalpodautoscalers"},
		"coordination.k8s.io":       {"leases"},
		"discovery.k8s.io":          {"endpointslices"},
		"networking.k8s.io":         {"ingressclasses", "ingresses", "networkpolicies"},
		"policy":                    {"poddisruptionbudgets"},
		"rbac.authorization.k8s.io": {"clusterrolebindings", "rolebindings"},
		"scheduling.k8s.io":         {"priorityclasses"},
		"storage.k8s.io":            {"storageclasses"},
	} {
		for _, name := range resources {
			m[schema.GroupResource{Group: group, Resource: name}] = true
		}
	}
	return m
}()
