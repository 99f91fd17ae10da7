package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
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

// Taken are sockets of runtimes that another agent keeps for its own, by what it is part of: each would end the other's pods.
func Taken() map[string]string {
	return map[string]string{"k3s": "/run/k3s/containerd/containerd.sock"}
}

// Find are the endpoints of those of these paths below root that are sockets.
func Find(root string, paths []string) (endpoints []string) {
	for _, path := range paths {
		path = filepath.Join(root, path)
		if info, err := os.Stat(path); err == nil && info.Mode().Type() == fs.ModeSocket {
			endpoints = append(endpoints, "unix://"+path)
		}
	}
	return endpoints
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
func explain(ctx context.Context, endpoint string, answer time.Duration, err error) error {
	switch code := status.Code(err); {
	case code == codes.DeadlineExceeded, errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: none at %s within %s", ErrHangs, endpoint, answer)
	case code == codes.Unavailable:
		return fmt.Errorf("%w: nobody listens at %s; is it running, and may this process reach it? (%w)", ErrMissing, endpoint, err)
	case code == codes.Unimplemented:
		if old := older(ctx, endpoint); old != nil {
			return fmt.Errorf("%w: %s %s at %s speaks %s only; containerd has v1 since 1.6, CRI-O since 1.20",
				ErrOld, old.GetRuntimeName(), old.GetRuntimeVersion(), endpoint, old.GetRuntimeApiVersion())
		}
		return fmt.Errorf("%w: what listens at %s has no CRI; that of containerd is a plug-in, which the configuration may have switched off, as that of Docker's packages does: %w",
			ErrOld, endpoint, err)
	}
	return fmt.Errorf("container runtime at %s: %w", endpoint, err)
}

// older is what a runtime says of itself in v1alpha2 of the CRI, whose messages are those of v1; nil: nothing.
func older(ctx context.Context, endpoint string) *runtimeapi.VersionResponse {
	path, dial, err := util.GetAddressAndDialer(endpoint)
	if err != nil {
		return nil
	}
	conn, err := grpc.NewClient("passthrough:///"+path, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(dial))
	if err != nil {
		return nil
	}
	defer conn.Close() //nolint:errcheck // all is said
	version := &runtimeapi.VersionResponse{}
	if conn.Invoke(ctx, "/runtime.v1alpha2.RuntimeService/Version", &runtimeapi.VersionRequest{Version: "0.1.0"}, version) != nil {
		return nil
	}
	return version
}
