package server

import (
	"crypto/tls"
	"net"
	"testing"

	"github.com/rowlock-io/rowlock/server/read"
)

// sink is a connection that remembers what was written.
type sink struct {
	net.Conn
	got string
}

func (s *sink) Write(p []byte) (int, error) {
	s.got += string(p)
	return len(p), nil
}

// TestGather follows an announcement from a request's context to the next write of its connection.
func TestGather(t *testing.T) {
	t.Parallel()
	raw := &sink{}
	c := &gathering{Conn: raw}
	flag := read.Announced(gather(t.Context(), tls.Server(&stallableConn{Conn: c}, &tls.Config{MinVersion: tls.VersionTLS12})))
	if flag == nil {
		t.Fatal("requests of the connection cannot announce")
	}
	for _, announced := range []bool{false, true, true, false} {
		flag.Store(announced)
		if n, err := c.Write([]byte("x")); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		if flag.Load() {
			t.Error("the announcement is still there")
		}
	}
	if raw.got != "xxxx" {
		t.Errorf("%q was written", raw.got)
	}
	if read.Announced(gather(t.Context(), raw)) != nil {
		t.Error("a connection that does not gather has announcements")
	}
}
