package controlplane

import (
	"net/http"
	"sync/atomic"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/rowlock-io/rowlock/schema/object"
	"github.com/rowlock-io/rowlock/schema/openapi"
	"github.com/rowlock-io/rowlock/server/custom"
	"github.com/rowlock-io/rowlock/server/discovery"
	"github.com/rowlock-io/rowlock/server/read"
	"github.com/rowlock-io/rowlock/server/restful"
)

// customs is what serves custom resources.
type customs struct {
	custom *custom.Handler
	kinds  custom.Mapper // that custom knows
	hot    *object.Hot   // decoded objects of all resources

	defined atomic.Bool // the definitions have been read

	unserved http.HandlerFunc // answers in groups that nobody serves
}

// newCustom makes the handler of custom resources.
func (c *ControlPlane) newCustom(chain admission.Interface, reader *read.Handler, documents *discovery.Documents, described *openapi.Service) *custom.Handler {
	return custom.New(custom.Config{
		Backend:     c.backend,
		Definitions: c.catalogue.Codec(schema.GroupResource{Group: apiextensions.GroupName, Resource: "customresourcedefinitions"}),
		Hot:         c.hot,
		Transform:   c.transformer,
		BuiltIn:     func(gr schema.GroupResource) bool { return c.catalogue.Codec(gr) != nil },
		Client:      c.clients.extensions, Admission: chain, Authorizer: c.access.authorizer, Reader: reader, Traced: c.cfg.Record.Tracer != nil,
		Services: c.backends.services, Webhooks: c.backends.webhooks,
		Documents: documents, OpenAPI: described, Mapper: &c.kinds,
		Published:      func(served []schema.GroupVersion) { c.remotes.SetCustom(served); c.defined.Store(true) },
		RequestTimeout: c.cfg.RequestTimeout, MinRequestTimeout: minRequestTimeout, MaxRequestBodyBytes: maxBodyBytes,
		NotFound: c.notDefined(), Log: c.cfg.Log,
	})
}

// notDefined answers for resources that are neither built in nor defined: in Kubernetes' own form within built-in groups,
// elsewhere as
// where nothing is served.
func (c *ControlPlane) notDefined() http.Handler {
	builtin := map[string]bool{}
	for _, info := range c.catalogue.Groups() {
		builtin[info.PrioritizedVersions[0].Group] = true
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if info, ok := request.RequestInfoFrom(req.Context()); ok && builtin[info.APIGroup] {
			refuse(w, req, restful.Error(http.StatusNotFound, ""))
			return
		}
		c.unserved(w, req)
	})
}
