package encryption

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/server/healthz"
	"k8s.io/apiserver/pkg/server/options/encryptionconfig"
	"k8s.io/apiserver/pkg/server/options/encryptionconfig/metrics"
	"k8s.io/apiserver/pkg/storage/value"
)

// DefaultPoll is how often a followed file is looked at, as kube-apiserver does.
const DefaultPoll = time.Minute

// ProvidersConfig says where an EncryptionConfiguration is.
type ProvidersConfig struct {
	File   string
	Reload bool          // Run follows the file
	Poll   time.Duration // how often; 0: DefaultPoll
	Server string        // this server's id, of which upstream's metrics show a hash
	Log    *slog.Logger
}

// Providers are what an EncryptionConfiguration says, for all clusters of a process. A nil *Providers says nothing.
type Providers struct {
	cfg  ProvidersConfig
	life context.Context // of connections to KMS plugins
	end  context.CancelFunc
	now  atomic.Pointer[loaded]
}

// loaded is one content of the file.
type loaded struct {
	*encryptionconfig.EncryptionConfiguration
	close context.CancelFunc
}

// OpenProviders reads the file and connects to the KMS plugins that it names. A plugin that does not answer is no error: it may
// start later. What is wrong with the file is told in upstream's words. Close the result.
func OpenProviders(ctx context.Context, cfg ProvidersConfig) (*Providers, error) {
	if cfg.Poll == 0 {
		cfg.Poll = DefaultPoll
	}
	p := &Providers{cfg: cfg}
	p.life, p.end = context.WithCancel(context.WithoutCancel(ctx))
	l, err := p.load()
	if err != nil {
		p.end()
		return nil, err
	}
	metrics.RecordEncryptionConfigLastConfigInfo(cfg.Server, l.EncryptionFileContentHash)
	p.now.Store(l)
	return p, nil
}

func (p *Providers) load() (*loaded, error) {
	ctx, cancel := context.WithCancel(p.life)
	config, err := encryptionconfig.LoadEncryptionConfig(ctx, p.cfg.File, p.cfg.Reload, p.cfg.Server)
	if err != nil {
		cancel()
		return nil, err
	}
	return &loaded{EncryptionConfiguration: config, close: cancel}, nil
}

// Close ends the connections to KMS plugins.
func (p *Providers) Close() { p.end() }

// Run follows the file until ctx ends. A content that is wrong, or whose KMS plugins are not healthy, is not taken over.
func (p *Providers) Run(ctx context.Context) {
	if !p.cfg.Reload {
		return
	}
	for {
		select {
		case <-time.After(p.cfg.Poll):
		case <-ctx.Done():
			return
		}
		changed, err := p.reload(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			metrics.RecordEncryptionConfigAutomaticReloadFailure(p.cfg.Server)
			p.cfg.Log.Error("Encryption configuration could not be taken over; the one from before stays in use", "file", p.cfg.File, "err", err)
		case changed:
			metrics.RecordEncryptionConfigAutomaticReloadSuccess(p.cfg.Server, p.now.Load().EncryptionFileContentHash)
			p.cfg.Log.Info("Encryption configuration was taken over", "file", p.cfg.File)
		}
	}
}

func (p *Providers) reload(ctx context.Context) (changed bool, err error) {
	old := p.now.Load()
	hash, err := encryptionconfig.GetEncryptionConfigHash(p.cfg.File)
	if err != nil || hash == old.EncryptionFileContentHash {
		return false, err
	}
	next, err := p.load()
	if err != nil {
		return false, err
	}
	if next.EncryptionFileContentHash == old.EncryptionFileContentHash {
		next.close() // it was changed back in between
		return false, nil
	}
	if err := next.healthy(ctx); err != nil {
		next.close()
		return false, fmt.Errorf("health check for new transformers failed: %w", err)
	}
	p.now.Store(next)
	// Requests that are under way may still use the old connections.
	context.AfterFunc(p.life, old.close)
	time.AfterFunc(old.KMSCloseGracePeriod, old.close)
	return true, nil
}

// minHealthy is the least time that new plugins get to become healthy.
const minHealthy = 10 * time.Second

func (l *loaded) healthy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, max(l.KMSCloseGracePeriod, minHealthy))
	defer cancel()
	for {
		err := l.check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

func (l *loaded) check(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "/healthz/kms-providers", nil)
	if err != nil {
		return err
	}
	for _, check := range l.HealthChecks {
		if err := check.Check(req); err != nil {
			return err
		}
	}
	return nil
}

// Checks are the health checks of KMS plugins, for /healthz and /readyz, under upstream's names.
func (p *Providers) Checks() []healthz.HealthChecker {
	if p == nil {
		return nil
	}
	if !p.cfg.Reload {
		return p.now.Load().HealthChecks
	}
	return []healthz.HealthChecker{healthz.NamedCheck("kms-providers", func(req *http.Request) error {
		return p.now.Load().check(req.Context())
	})}
}

// mayCover tells whether the providers may ever speak of a resource.
func (p *Providers) mayCover(gr schema.GroupResource) bool {
	return p != nil && (p.cfg.Reload || p.now.Load().transformer(gr) != nil)
}

// Covers tells whether the configuration of now speaks of a resource.
func (p *Providers) Covers(gr schema.GroupResource) bool { return p.transformer(gr) != nil }

// transformer is what the configuration says of a resource; nil: nothing.
func (p *Providers) transformer(gr schema.GroupResource) value.Transformer {
	if p == nil {
		return nil
	}
	return p.now.Load().transformer(gr)
}

func (l *loaded) transformer(gr schema.GroupResource) value.Transformer {
	for _, name := range [...]schema.GroupResource{gr, {Group: gr.Group, Resource: "*"}, {Group: "*", Resource: "*"}} {
		if t := l.Transformers[name]; t != nil {
			return t
		}
	}
	return nil
}
