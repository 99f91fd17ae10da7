package fakecri

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// old is what a runtime says of itself in v1alpha2 of the CRI, whose messages are those of v1.
var old = grpc.ServiceDesc{
	ServiceName: "runtime.v1alpha2.RuntimeService", HandlerType: (*runtimeapi.RuntimeServiceServer)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "Version",
		Handler: func(srv any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			req := &runtimeapi.VersionRequest{}
			if err := decode(req); err != nil {
				return nil, err
			}
			resp, err := srv.(*runtimeServer).Version(ctx, req)
			if err == nil {
				resp.RuntimeApiVersion = "v1alpha2"
			}
			return resp, err
		},
	}},
}

func (r *runtimeServer) Version(context.Context, *runtimeapi.VersionRequest) (*runtimeapi.VersionResponse, error) {
	return &runtimeapi.VersionResponse{
		Version: "0.1.0", RuntimeName: r.Profile.Name, RuntimeVersion: r.Profile.Version, RuntimeApiVersion: "v1",
	}, nil
}

func (r *runtimeServer) Status(context.Context, *runtimeapi.StatusRequest) (*runtimeapi.StatusResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := &runtimeapi.StatusResponse{
		Status:   &runtimeapi.RuntimeStatus{Conditions: r.conditions},
		Features: &runtimeapi.RuntimeFeatures{SupplementalGroupsPolicy: true}, RuntimeHandlers: r.handlers,
	}
	return clone(out), nil
}

func (r *runtimeServer) RuntimeConfig(context.Context, *runtimeapi.RuntimeConfigRequest) (*runtimeapi.RuntimeConfigResponse, error) {
	if r.Profile.CgroupDriver == nil {
		return nil, status.Error(codes.Unimplemented, "unknown method RuntimeConfig for service runtime.v1.RuntimeService")
	}
	return &runtimeapi.RuntimeConfigResponse{Linux: &runtimeapi.LinuxRuntimeConfiguration{CgroupDriver: *r.Profile.CgroupDriver}}, nil
}

func (r *runtimeServer) UpdateRuntimeConfig(_ context.Context, req *runtimeapi.UpdateRuntimeConfigRequest) (*runtimeapi.UpdateRuntimeConfigResponse, error) {
	return &runtimeapi.UpdateRuntimeConfigResponse{}, nil
}
