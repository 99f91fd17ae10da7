package tunnel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// StatusError is the answer of who did not upgrade a connection.
type StatusError struct {
	Code    int
	Message string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%d %s: %s", e.Code, http.StatusText(e.Code), e.Message)
}

// maxMessage bounds what is read of an error.
const maxMessage = 1 << 10

// Dial asks for a path of tunnels and returns the connection. The transport must not use HTTP/2. ctx bounds the dialling only.
func Dial(ctx context.Context, transport http.RoundTripper, url string) (net.Conn, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", Protocol)
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer resp.Body.Close()
		return nil, refusal(resp)
	}
	body, ok := resp.Body.(io.ReadWriteCloser)
	if !ok || resp.Header.Get("Upgrade") != Protocol {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("upgraded to %q, not %s", resp.Header.Get("Upgrade"), Protocol)
	}
	return &upgraded{ReadWriteCloser: body}, nil
}

func refusal(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxMessage))
	return &StatusError{Code: resp.StatusCode, Message: strings.TrimSpace(string(text))}
}

// upgraded is a connection of which net/http shows reading, writing and closing only. Nobody sets deadlines here: who does not answer
// is found out by pings.
type upgraded struct {
	io.ReadWriteCloser
	once sync.Once
	err  error
}

func (c *upgraded) Close() error {
	c.once.Do(func() { c.err = c.ReadWriteCloser.Close() })
	return c.err
}

func (*upgraded) LocalAddr() net.Addr              { return address{} }
func (*upgraded) RemoteAddr() net.Addr             { return address{} }
func (*upgraded) SetDeadline(time.Time) error      { return nil }
func (*upgraded) SetReadDeadline(time.Time) error  { return nil }
func (*upgraded) SetWriteDeadline(time.Time) error { return nil }

type address struct{}

func (address) Network() string { return "tunnel" }
func (address) String() string  { return "tunnel" }

// Asked tells whether a request asks for an upgrade to Protocol. If not, it has been answered.
func Asked(w http.ResponseWriter, req *http.Request) bool {
	if req.Method == http.MethodGet && req.ProtoMajor == 1 && req.Header.Get("Upgrade") == Protocol &&
		strings.EqualFold(req.Header.Get("Connection"), "Upgrade") {
		return true
	}
	w.Header().Set("Upgrade", Protocol)
	http.Error(w, "this path takes a GET over HTTP/1.1 that is upgraded to "+Protocol, http.StatusUpgradeRequired)
	return false
}

// Upgrade takes the connection of a request that was Asked for, and says so to who made it.
func Upgrade(w http.ResponseWriter, _ *http.Request) (net.Conn, error) {
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		http.Error(w, "the connection cannot be taken over", http.StatusInternalServerError)
		return nil, errors.New("the connection cannot be taken over")
	}
	conn, buffered, err := hijacker.Hijack()
	if err != nil {
		http.Error(w, "the connection cannot be taken over", http.StatusInternalServerError)
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	_, err = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+Protocol+"\r\n\r\n")
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	if buffered.Reader.Buffered() > 0 {
		return &ahead{conn, buffered.Reader}, nil
	}
	return conn, nil
}

// ahead is a connection of which some was read before.
type ahead struct {
	net.Conn
	r *bufio.Reader
}

func (c *ahead) Read(p []byte) (int, error) { return c.r.Read(p) }

// Join copies between two connections until one of them ends, and closes both.
func Join(a, b net.Conn) {
	var copying sync.WaitGroup
	one := func(to, from net.Conn) {
		_, _ = io.CopyBuffer(plainWriter{to}, plainReader{from}, make([]byte, copyBuffer))
		_ = to.Close()
		_ = from.Close()
	}
	copying.Go(func() { one(a, b) })
	one(b, a)
	copying.Wait()
}

// plainReader and plainWriter have io.CopyBuffer use the buffer that it is given.
type (
	plainReader struct{ io.Reader }
	plainWriter struct{ io.Writer }
)
