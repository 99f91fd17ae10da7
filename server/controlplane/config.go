// Package controlplane makes one cluster out of its part of the store: keys, cache, registries, admission, authorizer and
// HTTP handler. A ControlPlane is a value; a process hosts as many as it likes.
package controlplane

import (
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	utilnet "k8s.io/apimachinery/pkg/util/net"

	"github.com/rowlock-io/rowlock/admission"
	"github.com/rowlock-io/rowlock/schema/catalogue"
	"github.com/rowlock-io/rowlock/server/encryption"
	"github.com/rowlock-io/rowlock/server/fairness"
	"github.com/rowlock-io/rowlock/server/filters"
	"github.com/rowlock-io/rowlock/server/read"
	"github.com/rowlock-io/rowlock/server/seal"
	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
)

// Config is what a cluster is made from. Zero values mean kube-apiserver's defaults.
type Config struct {
	Name  string
	Path  string        // below which the cluster answers; empty: the root
	Store storage.Store // closed by the caller after Run has returned
	Keys  *seal.Keyring // opens the cluster's identity and its data keys
	// Encryption is what the operator configured of encryption at rest, shared by all clusters of a process; nil: Secrets
	// are encrypted with keys of the cluster's own.
	Encryption *encryption.Providers

	ServiceRange  net.IPNet
	NodePortRange utilnet.PortRange
	ClusterDomain string // DNS suffix of the cluster; cluster.local

	Advertise net.IP // where pods reach this replica; nil or loopback: it is not in the endpoints of `kubernetes`
	Port      int    // of the API
	Replicas  bool   // other processes may serve the same cluster
	Operator  bool   // its administrators may see all of the process: metrics and profiles, which tell of every cluster

	Access         Access // who else is believed, and who decides
	TokenFile      string // static tokens, upstream's CSV, of the operator's cluster; empty: none
	HostedTokens   bool   // the tokens of TokenFile are believed by clusters that are not the operator's too
	Anonymous      bool
	Issuer         string        // of service-account tokens
	TokenLifetime  time.Duration // the longest that a token may be asked for; 0: no bound
	EventTTL       time.Duration
	HistoryAge     time.Duration // how long changes are kept; 0: a day
	HistoryBytes   int64         // and how much of them at most; 0: no bound
	RequestTimeout time.Duration
	Admission      admission.Options
	// DecodedBytes bounds the decoded objects that are kept for the next reader, CompressedBytes the parts of compressed lists,
	// and RecentBytes the history for watchers.
	DecodedBytes, CompressedBytes, RecentBytes int64

	Objects  *cache.Budget // of objects' bytes in memory, for all clusters of a process; nil: all are there
	Outbound Outbound

	Record Record // of requests
	Flow   Flow   // how many requests are served at a time
	// FlowMarks count the requests of all clusters of a process; nil: nobody does.
	FlowMarks *fairness.Marks
	Agents    []Agent // run for the cluster, in this process

	// NoNodeMetrics: metrics.k8s.io is not served from what nodes tell.
	NoNodeMetrics bool

	Versions *catalogue.Versions // what is served; nil: what kube-apiserver serves by default
	Hints    filters.Hints       // to browsers and HTTP/2 clients
	Process  Process             // shown by the operator's cluster

	Metrics *Metrics // shared by all clusters of a process; nil: of its own
	Log     *slog.Logger
}

// DefaultCompressedBytes is what CompressedBytes is when it is 0.
const DefaultCompressedBytes = read.DefaultCompressedBytes

// Defaults of kube-apiserver's flags, and ours where it has none.
const (
	DefaultServiceRange   = "10.96.0.0/12"
	defaultEventTTL       = time.Hour
	defaultHistoryAge     = 24 * time.Hour
	defaultRequestTimeout = time.Minute
	defaultDecodedBytes   = 32 << 20
	defaultIssuer         = "https://kubernetes.default.svc.cluster.local"
	maxBodyBytes          = 3 << 20
	minRequestTimeout     = 30 * time.Minute // as kube-apiserver's; at 0 upstream's watches would end at once
)

func (cfg Config) withDefaults() Config {
	if cfg.ServiceRange.IP == nil {
		_, r, _ := net.ParseCIDR(DefaultServiceRange)
		cfg.ServiceRange = *r
	}
	if cfg.NodePortRange.Size == 0 {
		cfg.NodePortRange = utilnet.PortRange{Base: 30000, Size: 2768}
	}
	if cfg.ClusterDomain == "" {
		cfg.ClusterDomain = "cluster.local"
	}
	if cfg.Issuer == "" {
		cfg.Issuer = defaultIssuer
	}
	if cfg.EventTTL == 0 {
		cfg.EventTTL = defaultEventTTL
	}
	if cfg.HistoryAge == 0 {
		cfg.HistoryAge = defaultHistoryAge
	}
	if cfg.RequestTimeout == 0 {
		cfg.RequestTimeout = defaultRequestTimeout
	}
	if cfg.DecodedBytes == 0 {
		cfg.DecodedBytes = defaultDecodedBytes
	}
	if cfg.Metrics == nil {
		cfg.Metrics, _ = NewMetrics(prometheus.NewRegistry())
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return cfg
}
