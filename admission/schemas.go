package admission

import (
	"sync"
	"time"

	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/openapi"
)

// schemaClient is a client that tells when the list of OpenAPI documents was read. Upstream's mutating policies that apply
// configurations read it in the background when they are made and fail until then; a plug-in that is made by the first
// write has to wait for it.
type schemaClient struct {
	kubernetes.Interface
	once sync.Once
	read chan struct{}
}

func newSchemaClient(client kubernetes.Interface) *schemaClient {
	return &schemaClient{Interface: client, read: make(chan struct{})}
}

const (
	schemaWait  = 10 * time.Second      // as long as upstream waits for anything else
	schemaStore = 20 * time.Millisecond // upstream keeps the list right after it has read it, and tells nobody
)

// wait returns when the list is known, or not known in time.
func (c *schemaClient) wait(done <-chan struct{}) {
	limit := time.NewTimer(schemaWait)
	defer limit.Stop()
	select {
	case <-c.read:
		time.Sleep(schemaStore)
	case <-limit.C:
	case <-done:
	}
}

// Discovery implements kubernetes.Interface.
func (c *schemaClient) Discovery() discovery.DiscoveryInterface {
	return schemaDiscovery{c.Interface.Discovery(), c}
}

type schemaDiscovery struct {
	discovery.DiscoveryInterface
	c *schemaClient
}

// OpenAPIV3 implements discovery.OpenAPIV3SchemaInterface.
func (d schemaDiscovery) OpenAPIV3() openapi.Client {
	return schemaPaths{d.DiscoveryInterface.OpenAPIV3(), d.c}
}

type schemaPaths struct {
	openapi.Client
	c *schemaClient
}

// Paths implements openapi.Client.
func (p schemaPaths) Paths() (map[string]openapi.GroupVersion, error) {
	paths, err := p.Client.Paths()
	if err == nil {
		p.c.once.Do(func() { close(p.c.read) })
	}
	return paths, err
}
