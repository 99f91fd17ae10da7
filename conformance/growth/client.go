package growth

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"k8s.io/client-go/rest"
)

// client is the cluster's administrator, on as many connections as it is made of transports.
type client struct {
	url   string
	token string
	conns []*http.Client
}

func newClient(config *rest.Config, connections int) (*client, error) {
	c := &client{url: config.Host, token: config.BearerToken}
	for range connections {
		tlsConfig, err := rest.TLSConfigFor(config)
		if err != nil {
			return nil, err
		}
		c.conns = append(c.conns, &http.Client{Transport: &http.Transport{
			TLSClientConfig: tlsConfig, ForceAttemptHTTP2: true, DisableCompression: true,
		}})
	}
	return c, nil
}

func (c *client) close() {
	for _, conn := range c.conns {
		conn.CloseIdleConnections()
	}
}

// open asks on one of the connections. Any status but success is an error.
func (c *client) open(ctx context.Context, conn int, method, path string, body []byte) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	resp, err := c.conns[conn%len(c.conns)].Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		defer resp.Body.Close()
		why, _ := io.ReadAll(io.LimitReader(resp.Body, 1024))
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, why)
	}
	return resp.Body, nil
}

// do asks and reads the whole answer.
func (c *client) do(ctx context.Context, conn int, method, path string, body []byte) ([]byte, error) {
	r, err := c.open(ctx, conn, method, path, body)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// read asks, and tells how much came, and when the first and the last of it did.
func (c *client) read(ctx context.Context, path string) (size int64, first, all time.Duration, err error) {
	began := time.Now()
	r, err := c.open(ctx, 0, http.MethodGet, path, nil)
	if err != nil {
		return 0, 0, 0, err
	}
	defer r.Close()
	first = time.Since(began)
	size, err = io.Copy(io.Discard, r)
	return size, first, time.Since(began), err
}

// value finds the first member of a name in an answer, which must be a string.
func value(data []byte, member string) string {
	_, rest, ok := strings.Cut(string(data), `"`+member+`":"`)
	if !ok {
		return ""
	}
	v, _, _ := strings.Cut(rest, `"`)
	return v
}
