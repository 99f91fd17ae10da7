package custom

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsclient "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/storage/value"
	"k8s.io/apiserver/pkg/util/webhook"

	"github.com/rowlock-io/rowlock/schema/adapter"
	"github.com/rowlock-io/rowlock/schema/fieldmanager"
	"github.com/rowlock-io/rowlock/schema/object"
	"github.com/rowlock-io/rowlock/schema/openapi"
	"github.com/rowlock-io/rowlock/server/discovery"
	"github.com/rowlock-io/rowlock/server/read"
	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
)

// definitionsResource is where definitions are kept.
var definitionsResource = schema.GroupResource{Group: apiextensions.GroupName, Resource: "customresourcedefinitions"}

// Config is what the custom resources of one cluster need.
type Config struct {
	Backend     adapter.Backend
	Definitions *object.Codec // of CustomResourceDefinitions
	Hot         *object.Hot
	Transform   func(schema.GroupResource) value.Transformer // encryption at rest; nil: none
	BuiltIn     func(schema.GroupResource) bool              // tells which names built-in resources are stored under

	Client     apiextensionsclient.Interface // the cluster's own API, in process
	Admission  admission.Interface
	Authorizer authorizer.Authorizer
	Reader     *read.Handler
	Traced     bool                    // some requests have spans
	Services   webhook.ServiceResolver // of conversion webhooks
	Webhooks   webhook.AuthenticationInfoResolverWrapper

	Documents *discovery.Documents
	OpenAPI   *openapi.Service
	Mapper    *Mapper
	// Published learns of all versions that are served, when they may have changed; nil: nobody does.
	Published func([]schema.GroupVersion)

	RequestTimeout      time.Duration
	MinRequestTimeout   time.Duration
	MaxRequestBodyBytes int64
	NotFound            http.Handler // answers requests for what is not defined
	Log                 *slog.Logger
}

// Handler serves the custom resources of one cluster. Its methods may be called at any time; Run keeps what others see of
// it up to date.
type Handler struct {
	cfg    Config
	fields func() (*fieldmanager.Customs, error) // made once
	made   atomic.Pointer[fieldmanager.Customs]  // what fields made; nil: nothing yet
	static staticModels

	published published     // of Run
	room      chan struct{} // asks Run to make room

	mu          sync.RWMutex
	definitions map[string]*definition // by the name of the CustomResourceDefinition
}

// New returns a handler. It reads and starts nothing.
func New(cfg Config) *Handler {
	h := &Handler{cfg: cfg, definitions: map[string]*definition{}, room: make(chan struct{}, 1), published: published{v3: map[schema.GroupVersion][32]byte{}}}
	h.fields = sync.OnceValues(func() (*fieldmanager.Customs, error) {
		made, err := fieldmanager.NewCustoms(cfg.Log)
		h.made.Store(made)
		return made, err
	})
	return h
}

// Cool lets go of what is kept for speed alone.
func (h *Handler) Cool() {
	if made := h.made.Load(); made != nil {
		made.Cool()
	}
}

// ServeHTTP answers a request for a resource in a group that is not built in.
func (h *Handler) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	info, ok := request.RequestInfoFrom(req.Context())
	if !ok || !info.IsResourceRequest {
		h.cfg.NotFound.ServeHTTP(w, req)
		return
	}
	d, err := h.find(req.Context(), info)
	if err != nil {
		h.cfg.Log.Error("Definition could not be read", "resource", info.Resource, "group", info.APIGroup, "err", err)
		http.Error(w, "the server could not read the definition of the resource", http.StatusInternalServerError)
		return
	}
	if d == nil || !d.serves(info.APIVersion) {
		h.cfg.NotFound.ServeHTTP(w, req)
		return
	}
	if d.serveBytes(w, req, info) || refuse(w, req, info) {
		return
	}
	s, err := d.serving()
	if err != nil {
		h.cfg.Log.Error("Custom resource could not be served", "definition", d.name, "err", err)
		http.Error(w, "the server could not properly serve the resource", http.StatusInternalServerError)
		return
	}
	if !s.writes.serve(w, req, info) {
		s.handler.ServeHTTP(w, req)
	}
}

// find returns the definition of what is asked for; nil when there is none. Before it says so it makes sure that this is
// the present: another replica may have told the client already that the resource is there.
func (h *Handler) find(ctx context.Context, info *request.RequestInfo) (*definition, error) {
	name := info.Resource + "." + info.APIGroup
	d, err := h.definition(name)
	if err != nil || d != nil && d.serves(info.APIVersion) {
		return d, err
	}
	if _, err := h.cfg.Backend.Cache.Current(ctx); err != nil {
		return nil, err
	}
	return h.definition(name)
}

// definition returns the definition of a name as the cache knows it now; nil: there is none.
func (h *Handler) definition(name string) (*definition, error) {
	e, _ := h.cfg.Backend.Cache.Get(storage.Key{Resource: definitionsResource.String(), Name: name})
	h.mu.RLock()
	d := h.definitions[name]
	h.mu.RUnlock()
	switch {
	case e == nil && d == nil:
		return nil, nil
	case e != nil && d != nil && d.revision() == e.Revision:
		return d, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	d = h.definitions[name]
	if e == nil {
		if d != nil {
			d.end()
			delete(h.definitions, name)
		}
		return nil, nil
	}
	if d != nil && d.revision() >= e.Revision {
		return d, nil // somebody else was faster
	}
	state, err := h.readState(e)
	if err != nil {
		return nil, err
	}
	if d != nil && d.sameAs(state) {
		d.state.Store(state)
		return d, nil
	}
	if d != nil {
		d.end()
	}
	d = h.newDefinition(state)
	h.definitions[name] = d
	return d, nil
}

// known is what was read of a definition's entry already; nil: nothing.
func (h *Handler) known(e *cache.Entry) *state {
	d, err := h.definition(e.Name) // which reads it, if it is the present
	if err != nil || d == nil || d.revision() != e.Revision {
		return nil
	}
	return d.state.Load()
}
