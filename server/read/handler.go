package read

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/features"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
)

// The defaults; the times are kube-apiserver's.
const (
	defaultMinRequestTimeout = 30 * time.Minute
	defaultBookmarkInterval  = time.Minute

	defaultStreamBytes = 4 << 20

	// DefaultCompressedBytes is what Config.CompressedBytes is when it is 0.
	DefaultCompressedBytes = 16 << 20
)

// Config is what all resources of one control plane share. Only Serializer is required.
type Config struct {
	// Serializer negotiates media types and encodes what is not stored: errors and bookmarks. It must be the one that the
	// fallback handlers use. A resource may bring its own.
	Serializer runtime.NegotiatedSerializer
	// MinRequestTimeout: a watch that does not say how long it wants to last ends after one to two times this.
	MinRequestTimeout time.Duration
	// BookmarkInterval is the time between two bookmarks of a watch that asked for them.
	BookmarkInterval time.Duration
	// CompressedBytes bounds what is kept of compressed lists, for all resources together; the default is 16 MiB.
	CompressedBytes int64
	// StreamBytes is how much of a list may have to be read from the database before its bytes are no longer all held at a
	// time: the memory that they left for want of room is not there for the list either. The default is 4 MiB.
	StreamBytes int
	// Serving, when not nil, is done when the server begins to shut down: all watches end then, cleanly. A context and not
	// a channel because a thousand watches can hang on it without a goroutine each.
	Serving context.Context
	// Observe, when not nil, gives what is to be called with the size in bytes of each watch event of a resource.
	Observe func(schema.GroupVersionResource) func(bytes int)
	Log     *slog.Logger
}

// Handler answers reads. It is safe for concurrent use and holds nothing of any one request.
type Handler struct {
	cfg       Config
	compress  bool
	watchList bool
	pools     pools
	lists     sync.Pool // *pieces
	runs      runs
}

// New returns a Handler. It starts nothing.
func New(cfg Config) *Handler {
	if cfg.MinRequestTimeout <= 0 {
		cfg.MinRequestTimeout = defaultMinRequestTimeout
	}
	if cfg.BookmarkInterval <= 0 {
		cfg.BookmarkInterval = defaultBookmarkInterval
	}
	if cfg.StreamBytes <= 0 {
		cfg.StreamBytes = defaultStreamBytes
	}
	if cfg.CompressedBytes <= 0 {
		cfg.CompressedBytes = DefaultCompressedBytes
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Handler{
		runs:      runs{max: cfg.CompressedBytes},
		cfg:       cfg,
		compress:  utilfeature.DefaultFeatureGate.Enabled(features.APIResponseCompression),
		watchList: utilfeature.DefaultFeatureGate.Enabled(features.WatchList),
	}
}

// acceptsGzip tells whether the client takes gzip, by upstream's rule: a token that is exactly "gzip", without a weight.
func (h *Handler) acceptsGzip(req *http.Request) bool {
	return h.compress && hasToken(req.Header.Get("Accept-Encoding"), "gzip")
}
