package controllers

import (
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
)

// known is what discovery says, remembered for as long as the server says that it has not changed. Half a dozen loops ask every half minute for
// all that there is, which with many custom resources is megabytes to decode, and hardly ever changes.
type known struct {
	discovery.DiscoveryInterface
	all  discovery.AggregatedDiscoveryInterface // asked for everything
	http *http.Client
	host string

	mu        sync.Mutex
	tags      map[string]string // by path, of what was last downloaded
	groups    *metav1.APIGroupList
	resources map[schema.GroupVersion]*metav1.APIResourceList
	failed    map[schema.GroupVersion]error
}

var _ discovery.AggregatedDiscoveryInterface = &known{}

// discoveryTimeout is client-go's.
const discoveryTimeout = 32 * time.Second

// roots are where everything is described.
var roots = []string{"/api", "/apis"}

func newKnown(config *rest.Config) (*known, error) {
	config = rest.CopyConfig(config)
	config.Timeout = discoveryTimeout
	k := &known{host: config.Host, tags: map[string]string{}}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return tagging{next, k} })
	var err error
	if k.http, err = rest.HTTPClientFor(config); err != nil {
		return nil, err
	}
	client, err := discovery.NewDiscoveryClientForConfigAndClient(config, k.http)
	if err != nil {
		return nil, err
	}
	k.DiscoveryInterface, k.all = client, client
	return k, nil
}

// tagging notes the tags of what is downloaded. Only all does it, with mu held: legacy discovery accepts nothing that has tags.
type tagging struct {
	next http.RoundTripper
	k    *known
}

func (t tagging) RoundTrip(req *http.Request) (*http.Response, error) {
	answer, err := t.next.RoundTrip(req)
	if err == nil && answer.StatusCode == http.StatusOK && strings.HasPrefix(req.Header.Get("Accept"), discovery.AcceptV2) && slices.Contains(roots, req.URL.Path) {
		t.k.tags[req.URL.Path] = answer.Header.Get("ETag")
	}
	return answer, err
}

// GroupsAndMaybeResources implements discovery.AggregatedDiscoveryInterface.
func (k *known) GroupsAndMaybeResources() (*metav1.APIGroupList, map[schema.GroupVersion]*metav1.APIResourceList, map[schema.GroupVersion]error, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.groups == nil || slices.ContainsFunc(roots, k.changed) {
		k.groups = nil
		clear(k.tags)
		groups, resources, failed, err := k.all.GroupsAndMaybeResources()
		if err != nil || resources == nil {
			return groups, resources, failed, err
		}
		k.groups, k.resources, k.failed = groups, resources, failed
	}
	groups := *k.groups
	groups.Groups = slices.Clone(groups.Groups)
	return &groups, maps.Clone(k.resources), maps.Clone(k.failed), nil
}

// changed asks the server whether a document is another one by now. When in doubt it is.
func (k *known) changed(path string) bool {
	tag := k.tags[path]
	if tag == "" {
		return true
	}
	req, err := http.NewRequest(http.MethodGet, k.host+path, nil)
	if err != nil {
		return true
	}
	req.Header.Set("Accept", discovery.AcceptV2)
	req.Header.Set("If-None-Match", tag)
	answer, err := k.http.Do(req)
	if err != nil {
		return true
	}
	_, _ = io.Copy(io.Discard, answer.Body)
	_ = answer.Body.Close()
	return answer.StatusCode != http.StatusNotModified
}

// ServerGroups implements discovery.ServerGroupsInterface.
func (k *known) ServerGroups() (*metav1.APIGroupList, error) {
	groups, _, _, err := k.GroupsAndMaybeResources()
	return groups, err
}

// ServerGroupsAndResources implements discovery.ServerResourcesInterface.
func (k *known) ServerGroupsAndResources() ([]*metav1.APIGroup, []*metav1.APIResourceList, error) {
	return discovery.ServerGroupsAndResources(k)
}

// ServerPreferredResources implements discovery.ServerResourcesInterface.
func (k *known) ServerPreferredResources() ([]*metav1.APIResourceList, error) {
	return discovery.ServerPreferredResources(k)
}

// ServerPreferredNamespacedResources implements discovery.ServerResourcesInterface.
func (k *known) ServerPreferredNamespacedResources() ([]*metav1.APIResourceList, error) {
	return discovery.ServerPreferredNamespacedResources(k)
}

// WithLegacy implements discovery.DiscoveryInterface.
func (k *known) WithLegacy() discovery.DiscoveryInterface { return k.DiscoveryInterface.WithLegacy() }
