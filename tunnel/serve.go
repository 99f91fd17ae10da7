package tunnel

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"

	"golang.org/x/net/http2"
)

// Node is the agent's end of a tunnel.
type Node struct {
	// Dial connects to the node's own API.
	Dial func(ctx context.Context) (net.Conn, error)
	// DialPod connects to a pod of the node's, and to nothing else: an address that is none of them is ErrRefused. nil: all are.
	DialPod func(ctx context.Context, at netip.AddrPort) (net.Conn, error)
	// Leave is called when the server is about to end: another tunnel is to be made. This one goes on for the streams that it has.
	Leave func()
	Log   *slog.Logger
}

// Serve answers the server until the connection ends, or ctx does, which ends the streams as well.
func (n *Node) Serve(ctx context.Context, conn net.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	var streams sync.WaitGroup
	server := &http2.Server{
		MaxConcurrentStreams: agentStreams, MaxUploadBufferPerStream: streamWindow, MaxUploadBufferPerConnection: agentStreams * streamWindow,
		ReadIdleTimeout: pingAgent, PingTimeout: pingTimeout,
	}
	server.ServeConn(conn, &http2.ServeConnOpts{
		Context: ctx, BaseConfig: &http.Server{ErrorLog: slog.NewLogLogger(n.Log.Handler(), slog.LevelDebug)}, //nolint:gosec // it only lends its log
		Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			switch req.URL.Path {
			case streamPath:
				streams.Add(1)
				defer streams.Done()
				n.stream(w, req, n.Dial)
			case podPath:
				streams.Add(1)
				defer streams.Done()
				n.stream(w, req, n.dialPod(req))
			case leavePath:
				n.Leave()
			default:
				http.NotFound(w, req)
			}
		}),
	})
	cancel()
	_ = conn.Close()
	streams.Wait()
}

// dialPod connects to the pod that a request names.
func (n *Node) dialPod(req *http.Request) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		at, err := netip.ParseAddrPort(req.URL.Query().Get(PodQuery))
		if err != nil || n.DialPod == nil {
			return nil, ErrRefused
		}
		return n.DialPod(ctx, at)
	}
}

// stream is one connection to the node's API, or to a pod.
func (n *Node) stream(w http.ResponseWriter, req *http.Request, dial func(context.Context) (net.Conn, error)) {
	conn, err := dial(req.Context())
	if err != nil {
		code := http.StatusBadGateway
		if errors.Is(err, ErrRefused) {
			code = http.StatusMisdirectedRequest
		}
		level := slog.LevelWarn
		if req.URL.Path == podPath { // users say which, and where nobody listens is not the node's fault
			level = slog.LevelDebug
		}
		n.Log.Log(req.Context(), level, "The server was not connected", "to", req.URL.Path[1:], "err", err)
		http.Error(w, err.Error(), code)
		return
	}
	defer context.AfterFunc(req.Context(), func() { _ = conn.Close() })()
	control := http.NewResponseController(w)
	w.WriteHeader(http.StatusOK)
	if err := control.Flush(); err != nil {
		_ = conn.Close()
		return
	}
	up := make(chan struct{})
	go func() {
		defer close(up)
		_, err := io.CopyBuffer(plainWriter{conn}, plainReader{req.Body}, make([]byte, copyBuffer))
		half, ok := conn.(interface{ CloseWrite() error })
		if err != nil || !ok || half.CloseWrite() != nil {
			_ = conn.Close()
		}
	}()
	_, err = io.CopyBuffer(&flushing{w, control}, plainReader{conn}, make([]byte, copyBuffer))
	_ = conn.Close()
	_ = req.Body.Close()
	<-up
	if err != nil && !errors.Is(err, net.ErrClosed) {
		panic(http.ErrAbortHandler) // the stream was cut off, and must not look as if it had come to its end
	}
}

// flushing sends what is written at once.
type flushing struct {
	io.Writer
	control *http.ResponseController
}

func (f *flushing) Write(p []byte) (int, error) {
	n, err := f.Writer.Write(p)
	if err == nil {
		err = f.control.Flush()
	}
	return n, err
}
