package server

import (
	"context"
	"log/slog"
	"strings"

	"k8s.io/apiserver/pkg/endpoints/metrics"
)

// connectionErrors takes what net/http says of connections: handshakes that clients give up are counted.
type connectionErrors struct{ slog.Handler }

func newConnectionErrors(to *slog.Logger) slog.Handler { return connectionErrors{to.Handler()} }

// Enabled implements slog.Handler. What is not logged is counted too.
func (connectionErrors) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (c connectionErrors) Handle(ctx context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "http: TLS handshake error") {
		metrics.TLSHandshakeErrors.Inc()
	}
	if !c.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return c.Handler.Handle(ctx, r)
}
