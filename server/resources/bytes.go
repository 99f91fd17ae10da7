package resources

import (
	"net/http"
	"sync"

	"k8s.io/apiserver/pkg/endpoints/metrics"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/rowlock-io/rowlock/server/read"
)

// bytesFirst answers from kept bytes what can be answered from them, and the rest by decoding: the reader says no, with
// nothing written, to a request that needs more than bytes.
func (ep *endpoint) bytesFirst(try attempt, decode http.HandlerFunc) http.HandlerFunc {
	reader := ep.h.cfg.Reader
	if reader == nil || !ep.res.StoredVersion || ep.src.Subresource != "" {
		return decode
	}
	try = ep.h.traced(try)
	resource := sync.OnceValue(func() *read.Resource { return reader.NewResource(ep.readConfig()) })
	return func(w http.ResponseWriter, req *http.Request) {
		info, ok := request.RequestInfoFrom(req.Context())
		if !ok || !try(reader, w, req, info, resource()) {
			decode(w, req)
		}
	}
}

func (ep *endpoint) readConfig() read.ResourceConfig {
	scheme := ep.res.Group.Scheme
	table, _ := ep.src.Storage.(rest.TableConvertor)
	return read.ResourceConfig{
		Kind: ep.src.Kind, ListKind: ep.res.ListKind, Resource: ep.src.GroupVersionResource, Namespaced: ep.res.Namespaced,
		New: ep.src.Storage.New, Codec: ep.res.Stored, Cache: ep.h.cfg.Cache, Serializer: ep.res.Group.NegotiatedSerializer, Table: table,
		FieldLabel: func(label, value string) (string, string, error) {
			return scheme.ConvertFieldLabel(ep.src.Kind, label, value)
		},
	}
}

func readOne(h *read.Handler, w http.ResponseWriter, req *http.Request, info *request.RequestInfo, r *read.Resource) bool {
	return h.Get(w, req, info, r)
}

func readMany(h *read.Handler, w http.ResponseWriter, req *http.Request, info *request.RequestInfo, r *read.Resource) bool {
	if info.Verb == "watch" {
		var done bool
		metrics.RecordLongRunning(req, info, metrics.APIServerComponent, func() { done = h.Watch(w, req, info, r) })
		return done
	}
	return h.List(w, req, info, r)
}
