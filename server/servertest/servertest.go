// Package servertest runs servers in the process of a test: real TLS on a loopback port, any database, clients of every
// kind. It is for tests only.
package servertest

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/rowlock-io/rowlock/server"
	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/pki"
	"github.com/rowlock-io/rowlock/server/seal"
	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/memory"
)

// Default is the cluster at the root of a server.
const Default = "default"

// Tokens that every server believes, with the users they stand for.
const (
	AdminToken = "admin-token" // admin, of system:masters
	AliceToken = "alice-token" // alice, of devs: may do nothing but what everybody may
)

// Config says how a server is made. The zero value is one cluster in memory.
type Config struct {
	Database storage.Database // nil: in memory
	Clusters []string         // further clusters to make
	Keys     *seal.Keyring    // nil: new ones
	Plane    func(*controlplane.Config)
	Idle     time.Duration // see server.ClustersConfig
	Log      *slog.Logger  // nil: nothing is logged
	Domain   string        // see server.Config
	TLS      server.TLS

	HeaderTimeout time.Duration // see server.Config
	ShutdownDelay time.Duration // see server.Config
}

// Server is a running server.
type Server struct {
	URL      string // https://127.0.0.1:PORT
	Clusters *server.Clusters
	Keys     *seal.Keyring

	cancel context.CancelFunc
	done   chan struct{}
	err    error
	planes map[string]*controlplane.ControlPlane
}

// Start starts a server and waits until its clusters have their first objects. It stops with the test.
func Start(t testing.TB, cfg Config) *Server {
	t.Helper()
	s, err := Open(t.Context(), t.TempDir(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("server: %v", err)
		}
	})
	return s
}

// Open is Start for a server that several tests share: the caller stops it.
func Open(ctx context.Context, dir string, cfg Config) (*Server, error) {
	ctx = context.WithoutCancel(ctx)
	if cfg.Database == nil {
		cfg.Database = memory.New()
	}
	if cfg.Keys == nil {
		var err error
		if cfg.Keys, err = seal.Parse(seal.Generate()); err != nil {
			return nil, err
		}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	tokens := filepath.Join(dir, "tokens.csv")
	if err := os.WriteFile(tokens, []byte(AdminToken+",admin,admin,\"system:masters\"\n"+AliceToken+",alice,alice,\"devs\"\n"), 0o600); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	names := append([]string{Default}, cfg.Clusters...)
	for _, name := range names {
		if err := cfg.Database.CreateCluster(ctx, name); err != nil && !errors.Is(err, storage.ErrExists) {
			return nil, err
		}
	}
	plane := controlplane.Config{
		Keys: cfg.Keys, TokenFile: tokens, HostedTokens: true, Anonymous: true, Port: listener.Addr().(*net.TCPAddr).Port, Log: cfg.Log,
	}
	if cfg.Plane != nil {
		cfg.Plane(&plane)
	}
	s := &Server{
		URL: "https://" + listener.Addr().String(), Keys: cfg.Keys, done: make(chan struct{}), planes: map[string]*controlplane.ControlPlane{},
		Clusters: server.NewClusters(server.ClustersConfig{
			Database: cfg.Database, Keep: []string{Default}, Idle: cfg.Idle, Log: cfg.Log, Plane: plane,
		}),
	}
	return s, s.run(ctx, listener, names, cfg)
}

func (s *Server) run(ctx context.Context, listener net.Listener, names []string, cfg Config) error {
	for _, name := range names {
		p, release, err := s.Clusters.Acquire(ctx, name)
		if err != nil {
			return errors.Join(err, s.Clusters.Close(), listener.Close())
		}
		<-p.Bootstrapped()
		s.planes[name] = p
		release()
	}
	serving, err := pki.NewServing(s.planes[Default].Identity().ClusterCA, pki.Hosts(nil, ""))
	if err != nil {
		return err
	}
	srv, err := server.New(server.Config{
		Listener: listener, Serving: serving, Clusters: s.Clusters, Default: Default, Domain: cfg.Domain, HeaderTimeout: cfg.HeaderTimeout,
		ShutdownDelay: cfg.ShutdownDelay, DrainTimeout: 10 * time.Second, Log: cfg.Log, TLS: cfg.TLS,
	})
	if err != nil {
		return err
	}
	ctx, s.cancel = context.WithCancel(ctx)
	go func() {
		s.err = srv.Run(ctx)
		close(s.done)
	}()
	return nil
}

// Stop ends the server as SIGTERM does, and waits for its end.
func (s *Server) Stop() error {
	s.cancel()
	<-s.done
	return s.err
}

// Identity is what a cluster's certificates are made from.
func (s *Server) Identity(cluster string) *pki.Identity { return s.planes[cluster].Identity() }

// Address is where a cluster answers.
func (s *Server) Address(cluster string) string {
	if cluster == Default {
		return s.URL
	}
	return s.URL + "/clusters/" + cluster
}

// Config is how to reach a cluster with a bearer token; an empty one is anonymous.
func (s *Server) Config(cluster, token string) *rest.Config {
	return &rest.Config{
		Host: s.Address(cluster), BearerToken: token, QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{CAData: s.Identity(Default).ClusterCA.Bundle()},
	}
}

// WithCertificate is Config with a client certificate of the issuing cluster in place of a token.
func (s *Server) WithCertificate(t testing.TB, cluster, issuer string, client pki.Client) *rest.Config {
	t.Helper()
	pair, err := s.Identity(issuer).ClusterCA.IssueClient(client)
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.Config(cluster, "")
	cfg.CertData, cfg.KeyData = pair.CertPEM, pair.KeyPEM
	return cfg
}

// Client is an administrator's client of a cluster.
func (s *Server) Client(t testing.TB, cluster string) kubernetes.Interface {
	t.Helper()
	return NewClient(t, s.Config(cluster, AdminToken))
}

// NewClient makes a client.
func NewClient(t testing.TB, cfg *rest.Config) kubernetes.Interface {
	t.Helper()
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// Forget drops what the server remembers of a cluster that a test wants to see gone.
func (s *Server) Forget(cluster string) { delete(s.planes, cluster) }
