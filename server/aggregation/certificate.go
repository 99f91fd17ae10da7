package aggregation

import (
	"crypto/tls"
	"sync"
	"time"

	"github.com/rowlock-io/rowlock/server/pki"
)

// certificate is the one by which servers know that a request comes from this cluster's API. It is issued when it is first
// needed, and anew when a third of its life is left.
type certificate struct {
	authority *pki.Authority
	now       func() time.Time

	mu   sync.Mutex
	pair *tls.Certificate
}

func (c *certificate) current() (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if c.pair != nil && now.Before(c.pair.Leaf.NotAfter.Add(-c.pair.Leaf.NotAfter.Sub(c.pair.Leaf.NotBefore)/3)) {
		return c.pair, nil
	}
	pair, err := c.authority.IssueClient(pki.FrontProxy())
	if err != nil {
		return nil, err
	}
	c.pair = &pair.TLS
	return c.pair, nil
}
