package aggregation

import (
	"testing"
	"time"

	"github.com/rowlock-io/rowlock/server/pki/pkitest"
)

// TestCertificateIsRenewed: it is the same for two thirds of its life and another one from then on.
func TestCertificateIsRenewed(t *testing.T) {
	t.Parallel()
	now := time.Now()
	c := &certificate{authority: pkitest.New(t).FrontProxyCA, now: func() time.Time { return now }}
	first, err := c.current()
	if err != nil {
		t.Fatal(err)
	}
	life := first.Leaf.NotAfter.Sub(first.Leaf.NotBefore)
	now = first.Leaf.NotBefore.Add(life*2/3 - time.Hour)
	if again, err := c.current(); again != first || err != nil {
		t.Errorf("renewed early, %v", err)
	}
	now = first.Leaf.NotBefore.Add(life*2/3 + time.Hour)
	second, err := c.current()
	if err != nil || second == first || second.Leaf.SerialNumber.Cmp(first.Leaf.SerialNumber) == 0 {
		t.Errorf("not renewed, %v", err)
	}
}
