package outbound

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
)

// TestTenantDoesNotReachTheMachineByItsOwnAddress: what listens on all addresses of the server's machine, such as its
// database, is not for those who may write webhooks, nodes and endpoints in a cluster that it hosts.
func TestTenantDoesNotReachTheMachineByItsOwnAddress(t *testing.T) {
	t.Parallel()
	own := func() ([]net.Addr, error) {
		return []net.Addr{
			&net.IPNet{IP: net.IPv4(192, 0, 2, 7), Mask: net.CIDRMask(24, 32)},
			&net.IPNet{IP: net.ParseIP("2001:db8::7"), Mask: net.CIDRMask(64, 128)},
		}, nil
	}
	unknown := func() ([]net.Addr, error) { return nil, errors.New("none") }
	for _, tc := range []struct {
		host   string
		tenant bool
		own    func() ([]net.Addr, error)
		ok     bool
	}{
		{host: "192.0.2.7", tenant: true, own: own},
		{host: "::ffff:192.0.2.7", tenant: true, own: own},
		{host: "2001:db8::7", tenant: true, own: own},
		{host: "192.0.2.8", tenant: true, own: own, ok: true},
		{host: "2001:db8::8", tenant: true, own: own, ok: true},
		{host: "192.0.2.8", tenant: true, own: unknown},
		{host: "192.0.2.7", own: own, ok: true},
	} {
		d := NewDialer(Config{Tenant: tc.tenant})
		d.own = tc.own
		err := d.control(context.Background(), "tcp", net.JoinHostPort(tc.host, "5432"), nil)
		if (err == nil) != tc.ok || err != nil && !errors.Is(err, ErrAddress) {
			t.Errorf("%s, of a tenant: %v: %v, want allowed: %v", tc.host, tc.tenant, err, tc.ok)
		}
	}
	d := NewDialer(Config{Tenant: true, AllowLoopback: true})
	d.own = unknown
	if err := d.control(t.Context(), "tcp", "127.0.0.1:443", nil); err != nil {
		t.Errorf("loopback, which the operator has allowed: %v", err)
	}
	d.own = own
	if _, err := d.DialContext(t.Context(), "tcp", "192.0.2.7:5432"); err == nil || !strings.Contains(err.Error(), "the server's own address") {
		t.Errorf("dialed: %v", err)
	}
}
