// Package openapi serves the OpenAPI v2 and v3 documents of everything the server serves.
//
// The documents of the built-in groups are derived from their storages by upstream's own installer and builders, so
// they are what kube-apiserver publishes. Nothing is built before it is asked for: one v3 document costs one group
// version, the index and the v2 document cost all of them. What is kept afterwards is the compressed bytes; the
// definitions, routes and documents they were made from are garbage again.
//
// Other parts of the API (custom resources, aggregated servers) join as named sources, which come and go at run time.
package openapi

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	genericapiserver "k8s.io/apiserver/pkg/server"
	baseversion "k8s.io/component-base/version"
	openapicommon "k8s.io/kube-openapi/pkg/common"
	generatedopenapi "k8s.io/kubernetes/pkg/generated/openapi"
)

// Config says what the documents describe.
type Config struct {
	// Groups are the built-in groups, core included. Their storages are described, never called.
	Groups []*genericapiserver.APIGroupInfo
	// Definitions answers the schemas of all types that Groups speak. Nil means kube-apiserver's.
	Definitions openapicommon.GetOpenAPIDefinitions
	// Version is the major and minor version the documents tell. Empty means that of the pinned Kubernetes.
	Version string
	// Built is called at the end of a request for which documents were built, when what they were built from is garbage:
	// tens of MB, which the runtime by itself keeps for minutes. debug.FreeOSMemory suits processes with a small heap.
	// Nil does nothing.
	Built func()
	// Logger learns of documents that could not be built. Nil discards.
	Logger *slog.Logger
}

// Service holds the documents and serves them. All methods may be called at the same time.
type Service struct {
	log   *slog.Logger
	built func()

	building building

	mu      sync.Mutex
	sources map[string]*source
	head    *head     // of a v2 document with parts
	v2      *document // nil when a source changed since it was made
	stale   *document // the one before, served while the new one cannot be built
}

// building is held while an encoding of a document is made, so that the memory this takes is taken once.
type building struct {
	sync.Mutex
	done atomic.Int64 // encodings made so far
}

// settle calls the hook when encodings were made since there were that many.
func (s *Service) settle(before int64) {
	if s.building.done.Load() != before {
		s.built()
	}
}

// builtinName is the source of the built-in groups. It sorts before every other source of its rank.
const builtinName = ""

// New returns a service of the built-in groups. It builds no document.
func New(cfg Config) (*Service, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Version == "" {
		cfg.Version = baseversion.DefaultKubeBinaryVersion
	}
	if cfg.Definitions == nil {
		cfg.Definitions = generatedopenapi.GetOpenAPIDefinitions
	}
	b, err := newBuiltins(cfg)
	if err != nil {
		return nil, fmt.Errorf("openapi of built-in groups: %w", err)
	}
	if cfg.Built == nil {
		cfg.Built = func() {}
	}
	s := &Service{log: cfg.Logger, built: cfg.Built, sources: map[string]*source{}}
	s.put(builtinName, &source{v2: b.v2, v3: b.documents(), keep: b.keep})
	return s, nil
}
