package authn

import (
	"crypto/x509"
	"net/http"
	"sync"
	"time"
	"weak"

	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/group"
	x509request "k8s.io/apiserver/pkg/authentication/request/x509"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
)

// certificates authenticates by client certificate and remembers the outcome for as long as a connection that uses the
// certificate is open, since verifying it takes longer than most requests. It is forgotten when a certificate of its
// chain expires and when the authority that vouched for it is replaced. Failures are not remembered.
type certificates struct {
	cas []dynamiccertificates.CAContentProvider

	mu    sync.RWMutex
	known map[weak.Pointer[x509.Certificate]]verified
	sweep int // size of known at which entries of closed connections are removed
}

// verified is what is known of a certificate. It must not hold on to the certificate.
type verified struct {
	response *authenticator.Response
	ca       int            // which of the authorities vouched for it
	roots    *x509.CertPool // what that authority trusted
	until    time.Time
}

const minSweep = 1024

func newCertificates(cas []dynamiccertificates.CAContentProvider) *certificates {
	return &certificates{cas: cas, known: map[weak.Pointer[x509.Certificate]]verified{}, sweep: minSweep}
}

// AuthenticateRequest implements authenticator.Request.
func (c *certificates) AuthenticateRequest(req *http.Request) (*authenticator.Response, bool, error) {
	if req.TLS == nil || len(req.TLS.PeerCertificates) == 0 {
		return nil, false, nil
	}
	// All requests of a connection see the same parsed certificate, and nobody can show it without holding its key.
	key := weak.Make(req.TLS.PeerCertificates[0])
	if v, ok := c.lookUp(key); ok {
		return v.response, true, nil
	}
	var errs []error
	for i := range c.cas {
		v, ok, err := c.verify(req, i)
		if err != nil {
			errs = append(errs, err)
		}
		if ok {
			c.remember(key, v)
			return v.response, true, nil
		}
	}
	return nil, false, utilerrors.NewAggregate(errs)
}

func (c *certificates) lookUp(key weak.Pointer[x509.Certificate]) (verified, bool) {
	c.mu.RLock()
	v, ok := c.known[key]
	c.mu.RUnlock()
	if !ok || !time.Now().Before(v.until) {
		return verified{}, false
	}
	opts, ok := c.cas[v.ca].VerifyOptions()
	return v, ok && opts.Roots == v.roots
}

// verify has upstream judge the certificate by one authority.
func (c *certificates) verify(req *http.Request, ca int) (verified, bool, error) {
	opts, ok := c.cas[ca].VerifyOptions()
	if !ok {
		return verified{}, false, nil
	}
	v := verified{ca: ca, roots: opts.Roots}
	judge := x509request.New(opts, x509request.UserConversionFunc(func(chain []*x509.Certificate) (*authenticator.Response, bool, error) {
		v.until = chain[0].NotAfter
		for _, cert := range chain[1:] {
			if cert.NotAfter.Before(v.until) {
				v.until = cert.NotAfter
			}
		}
		return x509request.CommonNameUserConversion(chain)
	}))
	// The group of all who are known is added here, once for all requests to come.
	var err error
	v.response, ok, err = group.NewAuthenticatedGroupAdder(judge).AuthenticateRequest(req)
	return v, ok && err == nil, err
}

func (c *certificates) remember(key weak.Pointer[x509.Certificate], v verified) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.known) >= c.sweep {
		now := time.Now()
		for k, old := range c.known {
			if k.Value() == nil || !now.Before(old.until) {
				delete(c.known, k)
			}
		}
		// Twice of what is in use, so that sweeping costs little per connection.
		c.sweep = max(minSweep, 2*len(c.known))
	}
	c.known[key] = v
}
