package agents

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// customKind is a kind that the flow has defined.
type customKind struct{ apiVersion, kind, resource string }

// customKind defines a kind of custom resources, in a group of the flow's own, and waits until it is served.
func (f *flow) customKind(name, scope string) customKind {
	f.Helper()
	k := customKind{apiVersion: f.ns + ".example.com/v1", kind: strings.ToUpper(name[:1]) + name[1:], resource: name + "s." + f.ns + ".example.com"}
	f.create(fmt.Sprintf(`
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: %s}
spec:
  group: $NS.example.com
  names: {plural: %ss, kind: %s}
  scope: %s
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]`,
		k.resource, name, k.kind, scope))
	f.await("customresourcedefinitions/"+k.resource, "o.status.conditions.exists(c, c.type == 'Established' && c.status == 'True')")
	f.awaitAll(k.resource, "items.size() == 0")
	return k
}

// object is the manifest of one, with further metadata.
func (k customKind) object(name, metadata string) string {
	return fmt.Sprintf("{apiVersion: %s, kind: %s, metadata: {name: %s, %s}}", k.apiVersion, k.kind, name, metadata)
}

// ownedBy is the metadata of an object that others own.
func ownedBy(owners ...*unstructured.Unstructured) string {
	var all []string
	for _, o := range owners {
		all = append(all, fmt.Sprintf("{apiVersion: %s, kind: %s, name: %s, uid: %s, blockOwnerDeletion: true}", o.GetAPIVersion(), o.GetKind(), o.GetName(), o.GetUID()))
	}
	return "ownerReferences: [" + strings.Join(all, ", ") + "]"
}

func configMap(name, metadata string) string {
	return fmt.Sprintf("{apiVersion: v1, kind: ConfigMap, metadata: {name: %s, %s}}", name, metadata)
}

var garbage = group{
	"in the background children go after their owner": func(f *flow) {
		owner := f.create(configMap("owner", ""))
		child := f.create(configMap("child", ownedBy(owner)))
		f.create(configMap("grandchild", ownedBy(child)))
		f.delete("configmaps/owner", metav1.DeletePropagationBackground)
		f.gone("configmaps/owner")
		f.gone("configmaps/child")
		f.gone("configmaps/grandchild")
	},
	"in the foreground the owner goes last": func(f *flow) {
		owner := f.create(configMap("owner", ""))
		f.create(configMap("child", ownedBy(owner)+", finalizers: [flow/held]"))
		f.delete("configmaps/owner", metav1.DeletePropagationForeground)
		f.await("configmaps/child", "has(o.metadata.deletionTimestamp)")
		f.await("configmaps/owner", "has(o.metadata.deletionTimestamp) && 'foregroundDeletion' in o.metadata.finalizers")
		f.patch("configmaps/child", "metadata: {finalizers: null}")
		f.gone("configmaps/child")
		f.gone("configmaps/owner")
	},
	"orphans lose the reference and stay": func(f *flow) {
		owner := f.create(configMap("owner", ""))
		f.create(configMap("child", ownedBy(owner)))
		f.delete("configmaps/owner", metav1.DeletePropagationOrphan)
		f.gone("configmaps/owner")
		f.await("configmaps/child", "!has(o.metadata.ownerReferences) && !has(o.metadata.deletionTimestamp)")
	},
	"who has another owner stays, without the one that went": func(f *flow) {
		a, b := f.create(configMap("a", "")), f.create(configMap("b", ""))
		f.create(configMap("child", ownedBy(a, b)))
		f.delete("configmaps/a", metav1.DeletePropagationForeground)
		f.gone("configmaps/a")
		f.await("configmaps/child", "o.metadata.ownerReferences.size() == 1 && o.metadata.ownerReferences[0].name == 'b'")
	},
	"an owner that never was": func(f *flow) {
		owner := f.create(configMap("owner", ""))
		owner.SetUID("00000000-0000-0000-0000-000000000000")
		f.create(configMap("child", ownedBy(owner)))
		f.gone("configmaps/child")
	},
	"custom resources own and are owned, and go with their definition": func(f *flow) {
		kind := f.customKind("owner", "Namespaced")
		owner := f.create(kind.object("owner", ""))
		child := f.create(configMap("child", ownedBy(owner)))
		f.create(kind.object("grandchild", ownedBy(child)))
		f.delete(kind.resource + "/owner")
		f.gone("configmaps/child")
		f.gone(kind.resource + "/grandchild")
		f.create(configMap("child", ownedBy(f.create(kind.object("owner", "")))))
		f.delete("customresourcedefinitions/" + kind.resource)
		f.gone("customresourcedefinitions/" + kind.resource)
		f.gone("configmaps/child")
	},
	"an owner of the cluster's": func(f *flow) {
		owner := f.create("{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: $NS-owner}}")
		f.create(configMap("child", ownedBy(owner)))
		f.delete("clusterroles/$NS-owner")
		f.gone("configmaps/child")
	},
	"an owner in another namespace is none, which is told": func(f *flow) {
		f.create("{apiVersion: v1, kind: Namespace, metadata: {name: $NS-other}}")
		owner := f.in(f.ns + "-other").create(configMap("owner", ""))
		f.create(configMap("child", ownedBy(owner)))
		f.gone("configmaps/child")
		f.awaitEvent("child", "OwnerRefInvalidNamespace", "does not exist in namespace")
		f.in(f.ns + "-other").get("configmaps/owner")
	},
}

var namespaces = group{
	"all in it goes, custom resources too": func(f *flow) {
		kind := f.customKind("thing", "Namespaced")
		f.create("{apiVersion: v1, kind: Namespace, metadata: {name: $NS-x}}")
		x := f.in(f.ns + "-x")
		x.await("serviceaccounts/default", "true")
		x.create(kind.object("thing", ""))
		x.create(`{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {replicas: 2, selector: {matchLabels: {app: web}}, template: ` + plain + `}}`)
		x.await("deployments/web", "o.status.availableReplicas == 2")
		f.delete("namespaces/$NS-x")
		f.gone("namespaces/$NS-x")
		x.awaitAll("pods", "items.size() == 0")
		x.awaitAll(kind.resource, "items.size() == 0")
	},
	"what a finalizer holds, holds it, which is told": func(f *flow) {
		f.create("{apiVersion: v1, kind: Namespace, metadata: {name: $NS-x}}")
		x := f.in(f.ns + "-x")
		x.create(configMap("held", "finalizers: [flow/held]"))
		f.delete("namespaces/$NS-x")
		f.await("namespaces/$NS-x", `o.status.phase == 'Terminating' &&
			o.status.conditions.exists(c, c.type == 'NamespaceFinalizersRemaining' && c.status == 'True' && c.message.contains('flow/held in 1 resource instances')) &&
			o.status.conditions.exists(c, c.type == 'NamespaceContentRemaining' && c.status == 'True' && c.message.contains('configmaps. has 1 resource instances'))`)
		x.refused(configMap("new", ""), "because it is being terminated")
		x.patch("configmaps/held", "metadata: {finalizers: null}")
		f.gone("namespaces/$NS-x")
	},
}
