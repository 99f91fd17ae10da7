package controlplane

import (
	"context"
	"net/http"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	kubeletclient "k8s.io/kubernetes/pkg/kubelet/client"
	"k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/rowlock-io/rowlock/schema/openapi"
	"github.com/rowlock-io/rowlock/server/discovery"
	"github.com/rowlock-io/rowlock/server/nodemetrics"
)

// newFigures is who serves what nodes use; nil: nobody does.
func newFigures(c *ControlPlane, documents *discovery.Documents, described *openapi.Service) *nodemetrics.Handler {
	if c.cfg.NoNodeMetrics {
		return nil
	}
	return nodemetrics.New(nodemetrics.Config{
		Kube: c.clients.kube, Documents: documents, OpenAPI: described, Log: c.cfg.Log,
		Elsewhere: func() bool { return c.remotes.Find(nodemetrics.Group, v1beta1.SchemeGroupVersion.Version) != nil },
		Connect: func(ctx context.Context, node string) (*kubeletclient.ConnectionInfo, error) {
			return c.catalogue.Kubelets().GetConnectionInfo(ctx, types.NodeName(node))
		},
	})
}

// loaded tells whether the cluster's objects are there to be asked for.
func (c *ControlPlane) loaded() bool {
	select {
	case <-c.backend.Cache.Ready():
		return true
	default:
		return false
	}
}

// withFigures has discovery and OpenAPI know whether there are figures of nodes.
func (c *ControlPlane) withFigures(next http.Handler) http.Handler {
	if c.figures == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if c.loaded() {
			c.figures.Look(req.Context())
		}
		next.ServeHTTP(w, req)
	})
}

// figuresAt is who serves a path of the group of figures; nil: it is another path, or a document of discovery, or there are none.
func (c *ControlPlane) figuresAt(req *http.Request, group, rest string) http.Handler {
	if group != nodemetrics.Group || c.figures == nil || !c.loaded() || !c.figures.Look(req.Context()) {
		return nil
	}
	version, below, _ := strings.Cut(rest, "/")
	if version != v1beta1.SchemeGroupVersion.Version || strings.Trim(below, "/") == "" {
		return nil
	}
	return c.figures
}
