package join

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/tools/clientcmd"
	tokenapi "k8s.io/cluster-bootstrap/token/api"
)

// ownName is a name of Rowlock's servers that no certificate but one of the cluster's own authority is for: where an operator's
// certificate is shown otherwise, it is asked for by this name.
const ownName = "own.rowlock.internal"

// At /clusters/NAME a server shows the certificate of the cluster at the root, by whatever name it is asked. By NAME below this domain it shows
// one of that cluster's authority, and it is that cluster which answers.
const (
	clusterPath = "/clusters/"
	ownDomain   = "servers.rowlock.internal"
)

// Bounds of what is done with a server that is not known yet.
const (
	askTimeout = 15 * time.Second
	maxAnswer  = 1 << 20
)

// discover asks the server for the cluster's authority, and returns what is pinned of it. Nothing is told to the server, of which nothing
// is known yet.
func (m *Member) discover(ctx context.Context) ([]byte, error) {
	var found []byte
	err := m.patiently(ctx, "The cluster's authority could not be asked for", func(ctx context.Context) error {
		bundle, err := clusterInfo(ctx, m.server)
		if err != nil {
			return err
		}
		if found = m.cfg.Token.Pins.of(bundle); len(found) == 0 {
			return fmt.Errorf("%w: %s", ErrPin, m.server)
		}
		return nil
	})
	return found, err
}

// clusterInfo is the authority that kube-public/cluster-info names, as anybody on the way may have it.
func clusterInfo(ctx context.Context, server string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	address := strings.TrimSuffix(server, "/") + "/api/v1/namespaces/" + metav1.NamespacePublic + "/configmaps/" + tokenapi.ConfigMapClusterInfo
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fatal{err}
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, Proxy: http.ProxyFromEnvironment} //nolint:gosec // what is learned is checked against the pins
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	switch answer.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized, http.StatusForbidden:
		return nil, fatal{fmt.Errorf("%s is not shown to anonymous clients (%s): name a file with the cluster's authority (--certificate-authority)", address, answer.Status)}
	default:
		return nil, fmt.Errorf("%s: %s", address, answer.Status)
	}
	var info corev1.ConfigMap
	if err := json.Unmarshal(body, &info); err != nil {
		return nil, fmt.Errorf("%s: %w", address, err)
	}
	config, err := clientcmd.Load([]byte(info.Data[tokenapi.KubeConfigKey]))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", address, err)
	}
	for _, cluster := range config.Clusters {
		if len(cluster.CertificateAuthorityData) > 0 {
			return cluster.CertificateAuthorityData, nil
		}
	}
	return nil, fmt.Errorf("%s names no authority", address)
}

// reach finds out by which name the server's certificate can be verified, unless that is known.
func (m *Member) reach(ctx context.Context) error {
	if m.server == "" {
		return errors.New("join: the server's URL is needed (--server)")
	}
	if m.known {
		return nil
	}
	address, host, own, err := dialAddress(m.server)
	if err != nil {
		return err
	}
	authority, err := os.ReadFile(m.path(authorityFile))
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	return m.patiently(ctx, "The server could not be reached", func(ctx context.Context) error {
		err := shakeHands(ctx, address, &tls.Config{RootCAs: pool, ServerName: host}) //nolint:gosec // no version is lowered
		var unverified *tls.CertificateVerificationError
		if !errors.As(err, &unverified) {
			m.known = err == nil
			return err
		}
		if shakeHands(ctx, address, &tls.Config{RootCAs: pool, ServerName: own}) == nil { //nolint:gosec // no version is lowered
			m.known, m.serverName = true, own
			return nil
		}
		return fatal{fmt.Errorf("the certificate of %s: %w (another address of the server, or its flag --tls-san, may help)", m.server, unverified.Err)}
	})
}

func shakeHands(ctx context.Context, address string, config *tls.Config) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// dialAddress is where the server listens, the host of its URL, and the name by which it shows a certificate of the cluster's authority.
func dialAddress(server string) (address, host, own string, err error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return "", "", "", fmt.Errorf("join: the server must be given as https://HOST:PORT: %q", server)
	}
	own = ownName
	if name, ok := strings.CutPrefix(u.Path, clusterPath); ok && len(validation.IsDNS1123Label(name)) == 0 {
		own = name + "." + ownDomain
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	return net.JoinHostPort(u.Hostname(), port), u.Hostname(), own, nil
}

// fatal is an error of which trying again does not help.
type fatal struct{ error }

func (f fatal) Unwrap() error { return f.error }

// Bounds of the wait between two tries.
const (
	firstWait = time.Second
	lastWait  = 30 * time.Second
)

// patiently tries until it works, ctx ends, or it is certain not to.
func (m *Member) patiently(ctx context.Context, message string, try func(context.Context) error) error {
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		err := try(ctx)
		if err == nil {
			return nil
		}
		var f fatal
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, &f):
			return fmt.Errorf("join: %w", f.error)
		case errors.Is(err, ErrPin), errors.Is(err, ErrToken), errors.Is(err, ErrNoToken):
			return err
		}
		m.cfg.Log.Warn(message, "server", m.server, "err", err, "again", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}
