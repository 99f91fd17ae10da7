package filters

import (
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	auditapi "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	upstream "k8s.io/apiserver/pkg/endpoints/filters"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/warning"
)

// facts are what is known of a request before anybody looks at it. They are one context, which answers to the keys of
// upstream's getters, where upstream's filters would put a context and a copy of the request around the other for each.
type facts struct {
	context.Context
	info      *request.RequestInfo
	received  time.Time
	audiences authenticator.Audiences      // that tokens are for
	ending    request.ServerShutdownSignal // nil: nobody is told
	audit     audit.AuditContext           // of requests that nobody records: knows their id
	latency   latency
	id        [1]string // the value of the header Audit-ID
	recorded  bool      // the context around has the audit context
	deadline  bool      // is set already

	mu       sync.Mutex
	writer   http.ResponseWriter // of the answer, for warnings
	recorder any                 // of warnings; made when there is one
}

// Upstream's keys, by which its getters ask.
var (
	factsKey     = new(byte)
	infoKey      = keyOf(func(ctx context.Context) { request.RequestInfoFrom(ctx) })
	receivedKey  = keyOf(func(ctx context.Context) { request.ReceivedTimestampFrom(ctx) })
	audiencesKey = keyOf(func(ctx context.Context) { authenticator.AudiencesFrom(ctx) })
	endingKey    = keyOf(func(ctx context.Context) { request.ServerShutdownSignalFrom(ctx) })
	auditKey     = keyOf(func(ctx context.Context) { audit.AuditContextFrom(ctx) })
	latencyKey   = keyOf(func(ctx context.Context) { request.LatencyTrackersFrom(ctx) })
	warningKey   = keyOf(func(ctx context.Context) { warning.AddWarning(ctx, "", "?") })
)

// probe is a context that remembers what it is asked for.
type probe struct {
	context.Context
	key *any
}

func (p probe) Value(key any) any {
	*p.key = key
	return nil
}

func keyOf(get func(context.Context)) (key any) {
	get(probe{context.Background(), &key})
	return key
}

// Value implements context.Context.
func (f *facts) Value(key any) any {
	switch key {
	case infoKey:
		return f.info
	case latencyKey:
		if f.latency.on {
			return &f.latency.trackers
		}
	case receivedKey:
		return f.received
	case audiencesKey:
		if len(f.audiences) > 0 {
			return f.audiences
		}
	case endingKey:
		if f.ending != nil {
			return f.ending
		}
	case auditKey:
		if !f.recorded {
			return &f.audit
		}
	case warningKey:
		if r := f.warnings(); r != nil {
			return r
		}
	case factsKey:
		return f
	}
	return f.Context.Value(key)
}

func factsOf(req *http.Request) *facts {
	f, _ := req.Context().Value(factsKey).(*facts)
	return f
}

// warnings are recorded by upstream's recorder.
func (f *facts) warnings() any {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.recorder == nil && f.writer != nil {
		upstream.WithWarningRecorder(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
			f.recorder = req.Context().Value(warningKey)
		})).ServeHTTP(f.writer, (&http.Request{}).WithContext(context.Background()))
	}
	return f.recorder
}

// withWarnings has warnings be headers of the answer as it is from here on.
func withWarnings(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if f := factsOf(req); f != nil {
			f.mu.Lock()
			f.writer = w
			f.mu.Unlock()
		}
		handler.ServeHTTP(w, req)
	})
}

// withFacts begins a request: its id, its time, what its path asks for, and when it has to be answered.
func withFacts(handler http.Handler, cfg Config, bounded bool) http.Handler {
	recorded := cfg.AuditSink != nil && cfg.AuditPolicy != nil
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		f := &facts{Context: req.Context(), received: time.Now(), ending: cfg.Ending, recorded: recorded}
		if bounded {
			f.audiences = cfg.Audiences
		}
		f.identify(w, req)
		if err := oversize(req.URL.RawQuery); err != nil {
			refuseOversize(err, cfg.Serializer, w, req)
			return
		}
		info, err := resolver.NewRequestInfo(req)
		if err != nil {
			responsewriters.InternalError(w, req.WithContext(f), fmt.Errorf("failed to create RequestInfo: %w", err))
			return
		}
		f.info = info
		if info.IsResourceRequest && info.Verb != "watch" {
			f.latency.init()
		}
		// What says how long it may take is for upstream's filter to read.
		if bounded && !strings.Contains(req.URL.RawQuery, "timeout") && !strings.Contains(req.URL.RawQuery, "%") && !LongRunning(req, info) {
			ctx, cancel := context.WithDeadline(f.Context, f.received.Add(cfg.Timeout))
			defer cancel()
			f.Context, f.deadline = ctx, true
		}
		handler.ServeHTTP(w, req.WithContext(f))
	})
}

// withDeadline bounds the time of requests that say something of it themselves.
func withDeadline(handler http.Handler, cfg Config) http.Handler {
	named := upstream.WithRequestDeadline(handler, cfg.AuditSink, cfg.AuditPolicy, LongRunning, cfg.Serializer, cfg.Timeout)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if f := factsOf(req); f != nil && f.deadline {
			handler.ServeHTTP(w, req)
			return
		}
		named.ServeHTTP(w, req)
	})
}

// identify gives the request the id that its client chose, or one of its own, and tells it in the answer.
func (f *facts) identify(w http.ResponseWriter, req *http.Request) {
	const header = "Audit-Id" // as it is kept
	if chosen := req.Header[header]; len(chosen) > 0 {
		f.id[0] = chosen[0]
	}
	if f.id[0] == "" {
		f.id[0] = newID()
	}
	if f.recorded {
		f.Context = audit.WithAuditContext(f.Context)
		audit.WithAuditID(f.Context, types.UID(f.id[0]))
	} else {
		audit.WithAuditID(f, types.UID(f.id[0]))
		_ = f.audit.Init(audit.RequestAuditConfig{Level: auditapi.LevelNone}, nil) // the first: cannot fail
	}
	if answer := w.Header(); len(answer[header]) == 0 || answer[header][0] == "" {
		answer[header] = f.id[:1:1]
	}
}

// newID makes a random UUID. Nobody has to be unable to guess it.
func newID() string {
	var id [16]byte
	var text [36]byte
	for i := 0; i < len(id); i += 8 {
		n := rand.Uint64()
		for j := range 8 {
			id[i+j] = byte(n >> (8 * j))
		}
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // version 4, as RFC 9562 has it
	hex.Encode(text[:8], id[:4])
	hex.Encode(text[9:13], id[4:6])
	hex.Encode(text[14:18], id[6:8])
	hex.Encode(text[19:23], id[8:10])
	hex.Encode(text[24:], id[10:])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return string(text[:])
}
