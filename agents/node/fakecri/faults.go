package fakecri

import (
	"context"
	"path"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Fault is something that goes wrong with calls.
type Fault struct {
	// Method is the one of the CRI, like RunPodSandbox; "": all.
	Method string
	// Err is the answer; nil: the real one, later. One that is no status of gRPC's has code Unknown.
	Err error
	// After: what is asked for is done, and then the answer is Err.
	After bool
	// Delay passes before anything else.
	Delay time.Duration
	// Hang: it does not answer until the caller gives up or the fault is taken away.
	Hang bool
	// Times is how many calls it befalls; 0: all.
	Times int

	gone chan struct{}
}

// Fail has calls fail until heal is called. Of several faults that fit a call the one that was added last befalls it.
func (r *Runtime) Fail(f Fault) (heal func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f.gone = make(chan struct{})
	fault := &f
	r.faults = append(r.faults, fault)
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.drop(fault)
	}
}

func (r *Runtime) drop(f *Fault) {
	r.faults = slices.DeleteFunc(r.faults, func(have *Fault) bool { return have == f })
	select {
	case <-f.gone:
	default:
		close(f.gone)
	}
}

// Without has methods that are not there.
func (r *Runtime) Without(methods ...string) {
	for _, m := range methods {
		r.Fail(Fault{Method: m, Err: status.Errorf(codes.Unimplemented, "unknown method %s for service runtime.v1.RuntimeService", m)})
	}
}

// Call is one that was made.
type Call struct {
	Method  string
	Request any // the message of the CRI; nil for streams
	At      time.Time
}

// Calls are those that were made of these methods, or of all.
func (r *Runtime) Calls(methods ...string) []Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	var calls []Call
	for _, c := range r.calls {
		if len(methods) == 0 || slices.Contains(methods, c.Method) {
			calls = append(calls, c)
		}
	}
	return calls
}

// ForgetCalls forgets the calls that were made so far.
func (r *Runtime) ForgetCalls() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = nil
}

// befall writes the call down and has its fault come true, if there is one. after is to be the answer when the call was done.
func (r *Runtime) befall(ctx context.Context, method string, request any) (after, err error) {
	r.mu.Lock()
	r.calls = append(r.calls, Call{Method: method, Request: request, At: time.Now()})
	var fault *Fault
	for _, f := range slices.Backward(r.faults) {
		if f.Method == "" || f.Method == method {
			fault = f
			break
		}
	}
	if fault != nil && fault.Times > 0 {
		if fault.Times--; fault.Times == 0 {
			// It is off the list, but not healed: a call that hangs for it goes on hanging.
			r.faults = slices.DeleteFunc(r.faults, func(f *Fault) bool { return f == fault })
		}
	}
	r.mu.Unlock()
	if fault == nil {
		return nil, nil
	}
	if fault.Delay > 0 {
		select {
		case <-time.After(fault.Delay):
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		}
	}
	if fault.Hang {
		select {
		case <-fault.gone:
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		}
	}
	if fault.After {
		return fault.Err, nil
	}
	return nil, fault.Err
}

func (r *Runtime) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	after, err := r.befall(ctx, path.Base(info.FullMethod), req)
	if err != nil {
		return nil, err
	}
	resp, err := handle(ctx, req)
	if err == nil && after != nil {
		return nil, after
	}
	return resp, err
}

func (r *Runtime) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	after, err := r.befall(stream.Context(), path.Base(info.FullMethod), nil)
	if err != nil {
		return err
	}
	if err := handle(srv, stream); err != nil {
		return err
	}
	return after
}
