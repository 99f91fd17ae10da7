package outbound

import (
	"errors"
	"net/netip"
	"testing"
)

func TestAddresses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		addr  string
		ok    bool
		local bool // whether it is allowed with loopback addresses
	}{
		{addr: "10.96.0.1", ok: true},
		{addr: "192.168.7.7", ok: true},
		{addr: "203.0.113.9", ok: true},
		{addr: "2001:db8::1", ok: true},
		{addr: "fd12:3456::1", ok: true},
		{addr: "::ffff:203.0.113.9", ok: true},
		{addr: "64:ff9b::203.0.113.9", ok: true},
		{addr: "127.0.0.1", local: true},
		{addr: "127.255.1.2", local: true},
		{addr: "::1", local: true},
		{addr: "::ffff:127.0.0.1", local: true},
		{addr: "64:ff9b::127.0.0.1", local: true},
		{addr: "0.0.0.0"},
		{addr: "0.1.2.3"},
		{addr: "::"},
		{addr: "::ffff:0.0.0.0"},
		{addr: "169.254.169.254"},
		{addr: "::ffff:169.254.169.254"},
		{addr: "::169.254.169.254"},
		{addr: "::ffff:0:169.254.169.254"},
		{addr: "64:ff9b::169.254.169.254"},
		{addr: "64:ff9b:1::169.254.169.254"},
		{addr: "2002:a9fe:a9fe::1"},
		{addr: "fe80::1"},
		{addr: "fe80::1%eth0"},
		{addr: "fd00:ec2::254"},
		{addr: "168.63.129.16"},
		{addr: "224.0.0.1"},
		{addr: "ff02::1"},
		{addr: "255.255.255.255"},
		{addr: "240.0.0.1"},
	} {
		addr := netip.MustParseAddr(tc.addr)
		for _, cfg := range []Config{{}, {AllowLoopback: true}} {
			want := tc.ok || tc.local && cfg.AllowLoopback
			err := cfg.Check(addr)
			if (err == nil) != want || err != nil && !errors.Is(err, ErrAddress) {
				t.Errorf("%s with %+v: %v, want allowed: %v", tc.addr, cfg, err, want)
			}
		}
	}
	if err := (Config{AllowLoopback: true}).Check(netip.Addr{}); err == nil {
		t.Error("no address is allowed")
	}
}
