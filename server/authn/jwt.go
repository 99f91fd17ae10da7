package authn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	authenticationcel "k8s.io/apiserver/pkg/authentication/cel"
	tokenunion "k8s.io/apiserver/pkg/authentication/token/union"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/apiserver/plugin/pkg/authenticator/token/oidc"
)

// JWTConfig describes tokens that OpenID Connect issuers signed.
type JWTConfig struct {
	// Authenticators have been validated. They may be none when File may bring some.
	Authenticators []apiserver.JWTAuthenticator
	// Algorithms that tokens may be signed with. Empty: all that are safe.
	Algorithms []string
	// Audiences are those of the API, which such tokens count as being for.
	Audiences authenticator.Audiences
	// Taken are issuers that may not be believed, since they are the cluster's own.
	Taken []string
	// File is the AuthenticationConfiguration that Authenticators came from, and is read again when it changes.
	File *File
	ID   string // of the server, in metrics
	Log  *slog.Logger
}

// JWT believes such tokens. Issuers are discovered in the background; until one has been reached, its tokens are refused.
type JWT struct {
	cfg     JWTConfig
	current atomic.Pointer[issuers]
	started chan struct{}
}

// issuers are those of one configuration.
type issuers struct {
	authenticator.Token
	urls    []string
	healthy func() error
	cancel  context.CancelFunc
}

// Bounds of replacing a configuration: how long the issuers of the new one have to answer, and how long the old one goes
// on for requests that are under way.
const (
	healthTimeout = time.Minute
	healthPoll    = 2 * time.Second
	oldIssuers    = time.Minute
)

// NewJWT returns an authenticator that works while Run runs.
func NewJWT(cfg JWTConfig) *JWT {
	if len(cfg.Algorithms) == 0 {
		cfg.Algorithms = oidc.AllValidSigningAlgorithms()
	}
	return &JWT{cfg: cfg, started: make(chan struct{})}
}

// AuthenticateToken implements authenticator.Token.
func (j *JWT) AuthenticateToken(ctx context.Context, token string) (*authenticator.Response, bool, error) {
	select {
	case <-j.started:
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
	return j.current.Load().AuthenticateToken(ctx, token)
}

// Run asks the issuers for their keys, and follows the file, until ctx ends.
func (j *JWT) Run(ctx context.Context) error {
	first, err := j.build(ctx, j.cfg.Authenticators)
	if err != nil {
		return fmt.Errorf("JWT authenticators: %w", err)
	}
	j.current.Store(first)
	close(j.started)
	if j.cfg.File != nil {
		j.cfg.File.follow(ctx, j.replace)
	}
	<-ctx.Done()
	return nil
}

// build makes authenticators that work until ctx ends or they are cancelled.
func (j *JWT) build(ctx context.Context, configs []apiserver.JWTAuthenticator) (*issuers, error) {
	ctx, cancel := context.WithCancel(ctx)
	made := &issuers{cancel: cancel}
	var tokens []authenticator.Token
	var checks []func() error
	var compiler authenticationcel.Compiler
	for _, c := range configs {
		if compiler == nil {
			compiler = authenticationcel.NewDefaultCompiler()
		}
		opts := oidc.Options{
			JWTAuthenticator: c, SupportedSigningAlgs: j.cfg.Algorithms, DisallowedIssuers: j.cfg.Taken,
			APIServerID: j.cfg.ID, Compiler: compiler,
		}
		if ca := c.Issuer.CertificateAuthority; ca != "" {
			content, err := dynamiccertificates.NewStaticCAContent("oidc-authenticator", []byte(ca))
			if err != nil {
				cancel()
				return nil, err
			}
			opts.CAContentProvider = content
		}
		issuer, err := oidc.New(ctx, opts)
		if err != nil {
			cancel()
			return nil, err
		}
		tokens, checks = append(tokens, issuer), append(checks, issuer.HealthCheck)
		made.urls = append(made.urls, c.Issuer.URL)
	}
	made.Token = authenticator.WrapAudienceAgnosticToken(j.cfg.Audiences, tokenunion.NewFailOnError(tokens...))
	made.healthy = func() error {
		var errs []error
		for _, check := range checks {
			errs = append(errs, check())
		}
		return errors.Join(errs...)
	}
	return made, nil
}

// replace puts a new configuration in force once its issuers have answered.
func (j *JWT) replace(ctx context.Context, configs []apiserver.JWTAuthenticator) error {
	next, err := j.build(ctx, configs)
	if err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	var unhealthy error
	err = wait.PollUntilContextCancel(waiting, healthPoll, true, func(context.Context) (bool, error) {
		unhealthy = next.healthy()
		return unhealthy == nil, nil
	})
	if err != nil {
		next.cancel()
		return errors.Join(unhealthy, err)
	}
	old := j.current.Swap(next)
	time.AfterFunc(oldIssuers, func() { j.forget(old) })
	return nil
}

func (j *JWT) forget(old *issuers) {
	old.cancel()
	kept := map[string]bool{}
	for _, url := range j.current.Load().urls {
		kept[url] = true
	}
	for _, url := range old.urls {
		if !kept[url] {
			oidc.DeleteJWKSFetchMetrics(url, j.cfg.ID)
		}
	}
}
