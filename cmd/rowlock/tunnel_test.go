package main

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/rowlock-io/rowlock/agents/node/fakecri"
	"github.com/rowlock-io/rowlock/agents/node/join"
	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/servertest"
)

// hears is told when something was logged.
type hears struct {
	slog.Handler
	what string
	then func()
}

func (h hears) Enabled(context.Context, slog.Level) bool { return true }

func (h hears) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == h.what {
		h.then()
	}
	return h.Handler.Handle(ctx, r)
}

func (h hears) WithAttrs(attrs []slog.Attr) slog.Handler {
	h.Handler = h.Handler.WithAttrs(attrs)
	return h
}

// TestAgentDialsOut: the server reaches the API of a node over the connection that the node's agent made.
func TestAgentDialsOut(t *testing.T) {
	t.Parallel()
	tunnelled := make(chan struct{})
	log := slog.New(hears{slog.NewTextHandler(t.Output(), nil), "Node has a tunnel", sync.OnceFunc(func() { close(tunnelled) })})
	s := servertest.Start(t, servertest.Config{Log: log, Plane: func(cfg *controlplane.Config) {
		cfg.Access.BootstrapTokens = true
		cfg.Agents = inside(t)
	}})
	admin := s.Client(t, servertest.Default)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = free.Close()
	cri, dir := fakecri.Start(t, fakecri.Containerd()), t.TempDir()
	var o agentCommand
	if err := newAgentCommand(&o).ParseFlags([]string{
		"--data-dir", dir, "--hostname-override", "worker", "--node-ip", addressOfTest(t)[0], "--container-runtime-endpoint", cri.Endpoint(),
		"--kubelet-port", strconv.Itoa(free.Addr().(*net.TCPAddr).Port), "--pod-network=false", "--cgroups-per-qos=false",
	}); err != nil {
		t.Fatal(err)
	}
	cfg := join.Config{
		Dir: filepath.Join(dir, "pki"), Node: "worker", Server: s.URL, Token: makeToken(t, s), UserAgent: "test", Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	stop := runNode(t, &o.node, nodePlace{Join: cfg, Endpoint: cri.Endpoint(), Dir: dir})
	defer stop()
	condition(t, admin, "worker", corev1.ConditionTrue, "")
	<-tunnelled
	until(t, "the node's API over its tunnel", func(ctx context.Context) (bool, error) {
		got, err := admin.CoreV1().RESTClient().Get().Resource("nodes").Name("worker").SubResource("proxy").Suffix("runningpods/").DoRaw(ctx)
		return err == nil && strings.Contains(string(got), `"kind":"PodList"`), nil
	})
}
