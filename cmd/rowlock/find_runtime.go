package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rowlock-io/rowlock/agents/node/runtime"
)

// runtimeAnswer is how long a container runtime may take to say what it is, when there is a choice.
const runtimeAnswer = 2 * time.Second

// runtimeEndpoint is what was given, or found below root. Of several, those do not count that have no CRI.
func (o *nodeOptions) runtimeEndpoint(ctx context.Context, root string) (string, error) {
	if o.endpoint != "" {
		if strings.HasPrefix(o.endpoint, "/") {
			return "unix://" + o.endpoint, nil
		}
		return o.endpoint, nil
	}
	switch found := runtime.Find(root, runtime.WellKnown()); len(found) {
	case 0:
		return "", errNoRuntime(root)
	case 1:
		return found[0], nil
	default:
		return choose(ctx, found)
	}
}

// errNoRuntime: nothing listens where container runtimes do.
func errNoRuntime(root string) error {
	text := "no container runtime was found: " + strings.Join(runtime.WellKnown(), ", ") + " do not exist; name its socket with --container-runtime-endpoint"
	taken := runtime.Taken()
	for _, whose := range slices.Sorted(maps.Keys(taken)) {
		for _, endpoint := range runtime.Find(root, []string{taken[whose]}) {
			text += fmt.Sprintf(" (not %s, which %s keeps for its own agent)", endpoint, whose)
		}
	}
	return errors.New(text)
}

// choose is the one endpoint of several that speaks the CRI.
func choose(ctx context.Context, endpoints []string) (string, error) {
	var usable, said []string
	for _, endpoint := range endpoints {
		name, err := speaks(ctx, endpoint)
		switch {
		case err == nil:
			usable, said = append(usable, endpoint), append(said, name+" at "+endpoint)
		case errors.Is(err, runtime.ErrHangs): // it may only just be starting
			usable, said = append(usable, endpoint), append(said, endpoint+" (does not answer)")
		default:
			said = append(said, fmt.Sprintf("%s (%v)", endpoint, err))
		}
	}
	if len(usable) == 1 {
		return usable[0], nil
	}
	return "", fmt.Errorf("several container runtimes were found: %s; choose one with --container-runtime-endpoint", strings.Join(said, ", "))
}

// speaks is what the runtime at an endpoint calls itself.
func speaks(ctx context.Context, endpoint string) (string, error) {
	r, err := runtime.Dial(ctx, endpoint, runtime.Options{Answer: runtimeAnswer, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return "", err
	}
	return r.Name() + " " + r.Version(), r.Close(ctx)
}

// unasked says why the machine is not to become a node by itself, though there is a container runtime; nil: it may.
func (o *nodeOptions) unasked(ctx context.Context, endpoint string) error {
	if _, err := speaks(ctx, endpoint); err != nil && !errors.Is(err, runtime.ErrHangs) {
		return err
	}
	if o.pods.port == 0 {
		return nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("", strconv.Itoa(int(o.pods.port))))
	if err != nil {
		return fmt.Errorf("a kubelet may run on it: %w", err)
	}
	return l.Close()
}
