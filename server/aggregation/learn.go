package aggregation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints"
	clientdiscovery "k8s.io/client-go/discovery"

	"github.com/rowlock-io/rowlock/server/discovery"
	"github.com/rowlock-io/rowlock/server/outbound"
)

// sourceName is the name of what aggregated servers say among the sources of discovery and OpenAPI.
const sourceName = "aggregated"

// discoveryKinds are the versions of the aggregated document; their JSON is the same.
var discoveryKinds = []schema.GroupVersionKind{
	{Group: "apidiscovery.k8s.io", Version: "v2", Kind: "APIGroupDiscoveryList"},
	{Group: "apidiscovery.k8s.io", Version: "v2beta1", Kind: "APIGroupDiscoveryList"},
}

// nothing is what discovery says of a version whose server has not answered.
func (b *backend) nothing() discovery.Version {
	return b.version(apidiscoveryv2.APIVersionDiscovery{Version: b.spec.Version, Freshness: apidiscoveryv2.DiscoveryFreshnessStale})
}

func (b *backend) version(v apidiscoveryv2.APIVersionDiscovery) discovery.Version {
	return discovery.Version{
		GroupVersion: b.groupVersion(), GroupPriority: b.spec.GroupPriorityMinimum, VersionPriority: b.spec.VersionPriority, Aggregated: &v,
	}
}

// publish puts what all servers said into the discovery documents.
func (a *Aggregator) publish() {
	a.publishing.Lock()
	defer a.publishing.Unlock()
	var versions []discovery.Version
	if remote := a.remote.Load(); remote != nil {
		for gv, b := range *remote {
			if gv.Group != "" {
				versions = append(versions, b.described())
			}
		}
	}
	if len(versions) == 0 {
		a.cfg.Discovery.Remove(sourceName)
		return
	}
	if err := a.cfg.Discovery.Set(sourceName, discovery.RankAggregated, versions); err != nil {
		a.cfg.Log.Error("Discovery of aggregated servers could not be published", "err", err)
	}
}

func (b *backend) described() discovery.Version {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.describe
}

func (b *backend) setDescription(v apidiscoveryv2.APIVersionDiscovery) {
	b.mu.Lock()
	b.describe = b.version(v)
	b.mu.Unlock()
	b.a.publish()
}

// stale marks what the server said as of the past.
func (b *backend) stale() {
	v := *b.described().Aggregated
	if v.Freshness != apidiscoveryv2.DiscoveryFreshnessStale {
		v.Freshness = apidiscoveryv2.DiscoveryFreshnessStale
		b.setDescription(v)
	}
}

// learn asks the server what it serves and how that is described.
func (b *backend) learn(ctx context.Context) error {
	leave, err := b.a.room.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	v, err := b.discover(ctx)
	if err != nil {
		return fmt.Errorf("discovery: %w", err)
	}
	text, err := json.Marshal(v)
	if err == nil {
		err = b.a.room.replace(&b.discovered, weigh(text))
	}
	if err != nil {
		return fmt.Errorf("discovery: %w", err)
	}
	v.Freshness = apidiscoveryv2.DiscoveryFreshnessCurrent
	b.setDescription(*v)
	if err := b.learnOpenAPI(ctx); err != nil && ctx.Err() == nil {
		b.log.Debug("Server of an APIService does not describe itself", "apiService", b.name, "err", err)
	}
	return nil
}

// letGo gives back the room of what is remembered.
func (b *backend) letGo() {
	_, _ = b.a.room.replace(&b.discovered, 0), b.a.room.replace(&b.written, 0) // less is never too much
}

// discover reads the aggregated document of the server or, when it has none, the older one of the version.
func (b *backend) discover(ctx context.Context) (*apidiscoveryv2.APIVersionDiscovery, error) {
	resp, err := b.ask(ctx, "/apis", clientdiscovery.AcceptV2+","+clientdiscovery.AcceptV2Beta1, "")
	if err != nil {
		return nil, err
	}
	body, err := whole(resp)
	if err != nil {
		return nil, err
	}
	for _, kind := range discoveryKinds {
		if ok, _ := clientdiscovery.ContentTypeIsGVK(resp.Header.Get("Content-Type"), kind); ok && resp.StatusCode == http.StatusOK {
			return b.fromAggregated(body)
		}
	}
	if resp.StatusCode == http.StatusServiceUnavailable {
		return nil, fmt.Errorf("service returned non-success response code: %d", resp.StatusCode)
	}
	if resp, err = b.ask(ctx, "/apis/"+b.groupVersion().String(), "application/json", ""); err != nil {
		return nil, err
	}
	if body, err = whole(resp); err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", resp.StatusCode)
	}
	var list metav1.APIResourceList
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, err
	}
	resources, err := endpoints.ConvertGroupVersionIntoToDiscovery(list.APIResources)
	if err != nil {
		return nil, err
	}
	return &apidiscoveryv2.APIVersionDiscovery{Version: b.spec.Version, Resources: resources}, nil
}

func (b *backend) fromAggregated(body []byte) (*apidiscoveryv2.APIVersionDiscovery, error) {
	var list apidiscoveryv2.APIGroupDiscoveryList
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, err
	}
	for _, g := range list.Items {
		if g.Name != b.spec.Group {
			continue
		}
		for _, v := range g.Versions {
			if v.Version == b.spec.Version {
				fill(&v)
				return &v, nil
			}
		}
	}
	return &apidiscoveryv2.APIVersionDiscovery{Version: b.spec.Version}, nil
}

// fill puts empty kinds where there is none: clients of some releases expect one (kubernetes/kubernetes#118361).
func fill(v *apidiscoveryv2.APIVersionDiscovery) {
	for i := range v.Resources {
		r := &v.Resources[i]
		if r.ResponseKind == nil {
			r.ResponseKind = &metav1.GroupVersionKind{}
		}
		for j := range r.Subresources {
			if r.Subresources[j].ResponseKind == nil {
				r.Subresources[j].ResponseKind = &metav1.GroupVersionKind{}
			}
		}
	}
}

func whole(resp *http.Response) ([]byte, error) {
	body, err := io.ReadAll(resp.Body)
	if err == nil && weigh(body) > maxWeight {
		err = outbound.ErrTooLarge
	}
	return body, errors.Join(err, resp.Body.Close())
}
