package read_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/rowlock-io/rowlock/server/read"
)

// TestAnnounced: a watch announces its events to its connection.
func TestAnnounced(t *testing.T) {
	t.Parallel()
	c, h := newCluster(t, read.Config{})
	var flag atomic.Bool
	ctx, cancel := context.WithCancel(read.WithAnnounced(t.Context(), &flag))
	defer cancel()
	req := httptest.NewRequestWithContext(ctx, http.MethodGet, "/api/v1/configmaps?watch=true", nil)
	req.Header.Set("Accept", asJSON)
	told := make(chan bool, 1)
	w := &discard{header: http.Header{}, gotten: func(int) { told <- flag.Load() }}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.handler(h).ServeHTTP(w, req)
	}()
	c.put(t, "configmaps", stored(configMap("default", "a", nil, "1")))
	if <-told {
		t.Error("announced before there was anything to flush")
	}
	c.put(t, "configmaps", stored(configMap("default", "a", nil, "2")))
	if !<-told {
		t.Error("an event was not announced")
	}
	cancel()
	<-ended
}
