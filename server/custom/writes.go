package custom

import (
	"net/http"
	"sync"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/endpoints/handlers"
	"k8s.io/apiserver/pkg/endpoints/metrics"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/rowlock-io/rowlock/schema/fieldmanager"
	"github.com/rowlock-io/rowlock/server/resources"
	"github.com/rowlock-io/rowlock/server/resources/write"
)

// written answers writes to objects and to their status, over the storages and scopes that upstream's handler made.
type written struct {
	d      *definition
	fields *fieldmanager.Customs
	parts  map[string]*parts

	mu   sync.Mutex
	made map[way]*writer
}

// way is one way in.
type way struct{ version, subresource, verb, scope string }

// writer is a handler with what tells which requests are for it.
type writer struct {
	handlers *write.Handlers
	handle   http.HandlerFunc
}

// serve answers a write. When it returns false nothing was read or written, and upstream's handler has to answer: it gets what
// is asked seldom, and what is wrong already by its path.
func (k *written) serve(w http.ResponseWriter, req *http.Request, info *request.RequestInfo) bool {
	verb := verbs[info.Verb]
	crd := k.d.state.Load().crd
	if verb == "" || verb != methodOf(req, info) || info.Subresource != "" && info.Subresource != "status" ||
		(crd.Spec.Scope == apiextensions.NamespaceScoped) != (info.Namespace != "") ||
		deprecated(crd, info.APIVersion) || apihelpers.IsCRDConditionTrue(crd, apiextensions.Terminating) ||
		verb == request.MethodPatch && req.Header.Get("Content-Type") == string(types.StrategicMergePatchType) {
		return false
	}
	to := k.writer(way{version: info.APIVersion, subresource: info.Subresource, verb: verb, scope: metrics.CleanScope(info)})
	if to == nil || !to.handlers.Takes(req) {
		return false
	}
	to.handle(w, req)
	return true
}

// verbs are those that are served here, with the methods they are counted as.
var verbs = map[string]string{
	"create": request.MethodPost, "update": request.MethodPut, "patch": request.MethodPatch,
	"delete": request.MethodDelete, "deletecollection": request.MethodDeleteCollection,
}

// methodOf is the method of a request, with that of collections.
func methodOf(req *http.Request, info *request.RequestInfo) string {
	if req.Method == http.MethodDelete && info.Verb == "deletecollection" {
		return request.MethodDeleteCollection
	}
	return req.Method
}

func (k *written) writer(to way) *writer {
	k.mu.Lock()
	defer k.mu.Unlock()
	made, ok := k.made[to]
	if !ok {
		made = k.make(to)
		k.made[to] = made
	}
	return made
}

// make returns nothing where there is nothing to write to.
func (k *written) make(to way) *writer {
	p := k.parts[to.version]
	if p == nil {
		return nil
	}
	w := &writer{}
	switch {
	case to.subresource == "":
		w.handlers = k.handlers(p, p.scope, resetBy(p.storage.CustomResource.GetResetFields()))
	case !k.hasStatus(to.version) || p.storage.Status == nil:
		return nil
	default:
		reset := map[fieldpath.APIVersion]*fieldpath.Set{}
		for _, other := range k.parts {
			if other.storage.Status != nil {
				for version, fields := range other.storage.Status.GetResetFields() {
					reset[version] = fields
				}
			}
		}
		w.handlers = k.handlers(p, p.status, resetBy(reset))
	}
	if w.handle = w.handler(to, p, upstreams); w.handle == nil {
		return nil
	}
	w.handle = resources.Counted(p.scope.Resource, to.subresource, to.verb, to.scope, false, w.handle)
	return w
}

// upstreams stands for upstream's handler, which gets its requests before.
func upstreams(http.ResponseWriter, *http.Request) {}

func (w *writer) handler(to way, p *parts, whole http.HandlerFunc) http.HandlerFunc {
	var all any = p.storage.CustomResource
	if to.subresource != "" {
		all = p.storage.Status
	}
	switch to.verb {
	case request.MethodPost:
		if r, ok := all.(rest.Creater); ok {
			return w.handlers.Create(r, whole)
		}
	case request.MethodPut:
		if r, ok := all.(rest.Updater); ok {
			return w.handlers.Update(r, whole)
		}
	case request.MethodPatch:
		if r, ok := all.(rest.Patcher); ok {
			return w.handlers.Patch(r, whole)
		}
	case request.MethodDelete:
		if r, ok := all.(rest.GracefulDeleter); ok && to.subresource == "" {
			return w.handlers.Delete(r, whole)
		}
	case request.MethodDeleteCollection:
		if r, ok := all.(rest.CollectionDeleter); ok && to.subresource == "" {
			return w.handlers.DeleteCollection(r, whole)
		}
	}
	return nil
}

func (k *written) handlers(p *parts, scope *handlers.RequestScope, reset map[fieldpath.APIVersion]fieldpath.Filter) *write.Handlers {
	cfg := k.d.h.cfg
	return write.New(write.Config{
		Scope: scope,
		Fields: k.fields.Manager(fieldmanager.CustomConfig{
			Kind: scope.Kind, Subresource: scope.Subresource, Types: p.types, Objects: scope.Convertor, Defaulter: scope.Defaulter,
			Creater: scope.Creater, Reset: reset,
		}),
		Admission: k.fields.Admission(admission.WithAudit(cfg.Admission)),
		Stored:    write.NewStoredMaps(scope.Kind),
		Traced:    cfg.Traced,
	})
}

func resetBy(fields map[fieldpath.APIVersion]*fieldpath.Set) map[fieldpath.APIVersion]fieldpath.Filter {
	return fieldpath.NewExcludeFilterSetMap(fields)
}

// hasStatus tells whether a version has the subresource.
func (k *written) hasStatus(version string) bool {
	subresources, err := apihelpers.GetSubresourcesForVersion(k.d.state.Load().crd, version)
	return err == nil && subresources != nil && subresources.Status != nil
}
