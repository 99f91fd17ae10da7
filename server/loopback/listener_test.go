package loopback

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
)

func TestListener(t *testing.T) {
	t.Parallel()
	l := NewListener()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })}
	ended := make(chan error)
	go func() { ended <- server.Serve(l) }()
	c := &http.Client{Transport: &http.Transport{DialContext: l.DialContext}}
	resp, err := c.Post("http://any.example.com/", "text/plain", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusTeapot {
		t.Errorf("status %d", resp.StatusCode)
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
	if _, err := l.DialContext(t.Context(), "", ""); !errors.Is(err, net.ErrClosed) {
		t.Errorf("dialing a closed listener: %v", err)
	}
}

func TestDialNobodyAccepts(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := NewListener().DialContext(ctx, "", ""); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
