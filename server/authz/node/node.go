// Package node decides by upstream's Node authorizer what a node's agent may read and write: its own Node, its pods, and
// what these refer to; and that it may hold the tunnel of its node.
//
// The graph behind that needs all pods, volumes and attachments of the cluster. It is built when the first node asks for
// something that hangs on it, so that a cluster without nodes does not pay for it, and the request waits until the graph is
// whole: a node is never told that a Secret of its pod is none of its business because nobody had looked.
package node

import (
	"context"
	"fmt"
	"sync"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/kubernetes/pkg/auth/nodeidentifier"
	"k8s.io/kubernetes/pkg/features"
	upstream "k8s.io/kubernetes/plugin/pkg/auth/authorizer/node"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac/bootstrappolicy"

	"github.com/rowlock-io/rowlock/tunnel"
)

// Authorizer judges the requests of nodes and has no opinion on others. It is safe for concurrent use; Run must run for
// requests of nodes to be answered.
type Authorizer struct {
	client   kubernetes.Interface
	identity nodeidentifier.NodeIdentifier
	graph    *upstream.Graph
	rules    *upstream.NodeAuthorizer

	once   sync.Once
	wanted chan struct{} // closed when the first node asks
	whole  chan struct{} // closed when the graph is
}

// New returns an authorizer on what a client sees. The client must not be subject to the authorizer.
func New(client kubernetes.Interface) *Authorizer {
	upstream.RegisterMetrics()
	a := &Authorizer{
		client: client, identity: nodeidentifier.NewDefaultNodeIdentifier(), graph: upstream.NewGraph(),
		wanted: make(chan struct{}), whole: make(chan struct{}),
	}
	a.rules = upstream.NewAuthorizer(a.graph, a.identity, bootstrappolicy.NodeRules())
	return a
}

// Run builds the graph when it is wanted and keeps it until ctx ends.
func (a *Authorizer) Run(ctx context.Context) error {
	select {
	case <-a.wanted:
	case <-ctx.Done():
		return nil
	}
	factory := informers.NewSharedInformerFactoryWithOptions(a.client, 0, informers.WithTransform(strip))
	in := &populating{}
	core := factory.Core().V1()
	upstream.AddGraphEventHandlers(a.graph, core.Nodes(), in.pods(core.Pods()), in.volumes(core.PersistentVolumes()),
		in.attachments(factory.Storage().V1().VolumeAttachments()), in.slices(factory.Resource().V1().ResourceSlices()),
		in.certificates(factory))
	factory.StartWithContext(ctx)
	defer factory.Shutdown()
	if toolscache.WaitForCacheSync(ctx.Done(), in.synced...) {
		close(a.whole)
	}
	<-ctx.Done()
	return nil
}

// Authorize implements authorizer.Authorizer.
func (a *Authorizer) Authorize(ctx context.Context, attrs authorizer.Attributes) (authorizer.Decision, string, error) {
	name, isNode := a.identity.NodeIdentity(attrs.GetUser())
	if !isNode {
		return authorizer.DecisionNoOpinion, "", nil
	}
	if name != "" && hangsOnGraph(attrs) {
		a.once.Do(func() { close(a.wanted) })
		select {
		case <-a.whole:
		case <-ctx.Done():
			return authorizer.DecisionNoOpinion, "", fmt.Errorf("what node %q may read is not known yet: %w", name, ctx.Err())
		}
	}
	if name != "" && !attrs.IsResourceRequest() && attrs.GetVerb() == "get" && attrs.GetPath() == tunnel.Path(name) {
		return authorizer.DecisionAllow, "", nil
	}
	return a.rules.Authorize(ctx, attrs)
}

// RulesFor implements authorizer.RuleResolver.
func (a *Authorizer) RulesFor(ctx context.Context, who user.Info, namespace string) ([]authorizer.ResourceRuleInfo, []authorizer.NonResourceRuleInfo, bool, error) {
	return a.rules.RulesFor(ctx, who, namespace)
}

// hangsOnGraph tells whether the answer may depend on how objects refer to each other. It may say so needlessly: upstream
// decides, and this says only what it must have seen before.
func hangsOnGraph(attrs authorizer.Attributes) bool {
	if !attrs.IsResourceRequest() {
		return false
	}
	switch attrs.GetAPIGroup() + "/" + attrs.GetResource() {
	case "/secrets", "/configmaps", "/persistentvolumeclaims", "/persistentvolumes", "/serviceaccounts",
		"resource.k8s.io/resourceclaims", "resource.k8s.io/resourceslices", "storage.k8s.io/volumeattachments",
		"certificates.k8s.io/podcertificaterequests":
		return attrs.GetName() != ""
	case "/pods":
		return attrs.GetName() != "" && attrs.GetSubresource() == ""
	}
	return false
}

// withPodCertificates tells whether nodes may ask for certificates of their pods.
func withPodCertificates() bool {
	return utilfeature.DefaultFeatureGate.Enabled(features.PodCertificateRequest)
}
