package outbound

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
)

// TestTenantDoesNotReachDeniedNetworks, whatever form an address in them takes.
func TestTenantDoesNotReachDeniedNetworks(t *testing.T) {
	t.Parallel()
	denied, err := ParseNetworks([]string{"10.1.2.3/8", "fc00::/7", "192.0.2.9", "127.0.0.0/8"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		addr   string
		tenant bool
		ok     bool
	}{
		{addr: "10.255.0.1", tenant: true},
		{addr: "::ffff:10.0.0.1", tenant: true},
		{addr: "64:ff9b::a00:1", tenant: true}, // NAT64
		{addr: "2002:a00:1::1", tenant: true},  // 6to4
		{addr: "fd12::1", tenant: true},
		{addr: "fd12::1%eth0", tenant: true},
		{addr: "192.0.2.9", tenant: true},
		{addr: "127.0.0.1", tenant: true}, // though loopback is allowed
		{addr: "192.0.2.8", tenant: true, ok: true},
		{addr: "11.0.0.1", tenant: true, ok: true},
		{addr: "2001:db8::1", tenant: true, ok: true},
		{addr: "10.255.0.1", ok: true},
		{addr: "127.0.0.1", ok: true},
	} {
		err := Config{AllowLoopback: true, Tenant: tc.tenant, Denied: denied}.Check(netip.MustParseAddr(tc.addr))
		if (err == nil) != tc.ok || err != nil && !errors.Is(err, ErrAddress) {
			t.Errorf("%s, of a tenant: %v: %v, want allowed: %v", tc.addr, tc.tenant, err, tc.ok)
		}
	}
	for _, wrong := range []string{"", "10.0.0.0/33", "::ffff:10.0.0.0/104", "fe80::1%eth0", "intranet"} {
		if _, err := ParseNetworks([]string{wrong}); err == nil {
			t.Errorf("%q was taken for a network", wrong)
		}
	}
}

// TestTenantIsNotToldOfTheResolver: which name server the machine asks, and from which address, is not for those who
// name hosts.
func TestTenantIsNotToldOfTheResolver(t *testing.T) {
	t.Parallel()
	for name, failure := range map[string]*net.DNSError{
		"lookup db.internal: no such host":           {Err: "no such host", IsNotFound: true},
		"lookup db.internal: i/o timeout":            {Err: "read udp 10.0.0.7:4000->10.0.0.53:53: i/o timeout", IsTimeout: true},
		"lookup db.internal: operation was canceled": {Err: "operation was canceled", UnwrapErr: context.Canceled},
		"lookup db.internal: server misbehaving":     {Err: "dial udp 10.0.0.53:53: connect: connection refused", IsTemporary: true},
	} {
		failure.Name, failure.Server = "db.internal", "10.0.0.53:53"
		err := withoutResolver("tcp", &net.OpError{Op: "dial", Net: "tcp", Err: failure})
		if got, want := err.Error(), "dial tcp: "+name; got != want {
			t.Errorf("told %q, want %q", got, want)
		}
		var told *net.DNSError
		if !errors.As(err, &told) || told.IsTimeout != failure.IsTimeout || failure.UnwrapErr != nil && !errors.Is(err, failure.UnwrapErr) {
			t.Errorf("%q is another error than %q", err, failure)
		}
	}
	for _, tenant := range []bool{true, false} {
		d := NewDialer(Config{Tenant: tenant})
		d.dialer.Resolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("10.0.0.53 does not answer")
		}}
		_, err := d.DialContext(t.Context(), "tcp", "db.example.org:443")
		if err == nil || strings.Contains(err.Error(), "10.0.0.53") == tenant {
			t.Errorf("of a tenant: %v: %v", tenant, err)
		}
	}
	refused := errors.New("refused")
	if err := withoutResolver("tcp", refused); !errors.Is(err, refused) {
		t.Errorf("%v became %v", refused, err)
	}
}
