package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/cri-client/pkg/util"
)

// What is wrong with a runtime that cannot be reached.
var (
	ErrMissing = errors.New("container runtime: not there")
	ErrHangs   = errors.New("container runtime: does not answer")
	ErrOld     = errors.New("container runtime: does not speak CRI v1")
)

// WellKnown are sockets where runtimes are found when nobody says where.
func WellKnown() []string {
	return []string{"/run/containerd/containerd.sock", "/run/crio/crio.sock", "/run/cri-dockerd.sock"}
}

// Find is the endpoint of the first of these paths that is a socket.
func Find(paths []string) (endpoint string, found bool) {
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil && info.Mode().Type() == fs.ModeSocket {
			return "unix://" + path, true
		}
	}
	return "", false
}

// there looks at the socket: what gRPC says of it later is about a connection.
func there(endpoint string) error {
	path, _, err := util.GetAddressAndDialer(endpoint)
	if err != nil {
		return fmt.Errorf("container runtime: endpoint %q: %w (want unix:///path/of/its.sock)", endpoint, err)
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: no socket at %s; is it installed and running?", ErrMissing, path)
	case err != nil:
		return fmt.Errorf("container runtime: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("container runtime: %s is not a socket", path)
	}
	return nil
}

// explain says what an error of the first calls means.
func explain(endpoint string, answer time.Duration, err error) error {
	switch code := status.Code(err); {
	case code == codes.DeadlineExceeded, errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: none at %s within %s", ErrHangs, endpoint, answer)
	case code == codes.Unavailable:
		return fmt.Errorf("%w: nobody listens at %s; is it running, and may this process reach it? (%w)", ErrMissing, endpoint, err)
	case code == codes.Unimplemented:
		return fmt.Errorf("%w: the runtime at %s has another version (containerd has v1 since 1.6, CRI-O since 1.20), or its CRI plug-in is off: %w", ErrOld, endpoint, err)
	}
	return fmt.Errorf("container runtime at %s: %w", endpoint, err)
}
