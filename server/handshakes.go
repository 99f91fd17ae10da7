package server

import (
	"bytes"
	"log"
	"log/slog"

	"k8s.io/apiserver/pkg/endpoints/metrics"
)

// connectionErrors takes what net/http says of connections: handshakes that clients give up are counted.
type connectionErrors struct{ log *slog.Logger }

func newConnectionErrors(to *slog.Logger) *log.Logger { return log.New(connectionErrors{to}, "", 0) }

// Write implements io.Writer.
func (c connectionErrors) Write(line []byte) (int, error) {
	if bytes.HasPrefix(line, []byte("http: TLS handshake error")) {
		metrics.TLSHandshakeErrors.Inc()
	}
	c.log.Debug(string(bytes.TrimSpace(line)))
	return len(line), nil
}
