package resources

import (
	"net/http"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/handlers/negotiation"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/rowlock-io/rowlock/server/resources/write"
	"github.com/rowlock-io/rowlock/server/restful"
)

// checked refuses requests whose headers name media types that the endpoint does not have, before they are counted.
func (ep *endpoint) checked(verb string, next http.HandlerFunc) http.HandlerFunc {
	media := ep.media(verb)
	return func(w http.ResponseWriter, req *http.Request) {
		if err := media.Check(req); err != nil {
			ep.h.fail(w, req, schema.GroupVersion{Version: "v1"}, err)
			return
		}
		next(w, req)
	}
}

// media says what a verb takes and gives, as upstream declares it.
func (ep *endpoint) media(verb string) restful.Route {
	var r restful.Route
	plain, streams := negotiation.MediaTypesForSerializer(ep.res.Group.NegotiatedSerializer)
	switch verb {
	case request.MethodConnect:
		return r // whoever is connected to decides
	case request.MethodPatch:
		r.Consumes = write.PatchTypes
	case request.MethodList, request.MethodWatchList:
		r.Produces = append(plain, streams...)
		return r
	}
	if m, ok := ep.src.Storage.(rest.StorageMetadata); ok {
		r.Produces = m.ProducesMIMETypes(verb)
	}
	r.Produces = append(r.Produces, plain...)
	return r
}
