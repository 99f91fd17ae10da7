package controlplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/rowlock-io/rowlock/server/inform"
	"github.com/rowlock-io/rowlock/server/loopback"
	"github.com/rowlock-io/rowlock/server/pki"
	"github.com/rowlock-io/rowlock/storage/commit"
)

// Agent is what watches a cluster's API and acts, in the server's own process: controllers, a scheduler.
type Agent struct {
	Name string
	// Run acts until ctx ends. When it returns before, it is run again after a while.
	Run func(ctx context.Context, in Inside) error
}

// Inside is how an agent sees the cluster whose process it lives in.
type Inside struct {
	Cluster  string
	Identity *pki.Identity
	// As configures clients without sockets that act as a user: authorized, audited and limited in nothing.
	As func(user.Info) *rest.Config
	// Informers makes factories of informers that read everything, without requests where they can.
	Informers func(client kubernetes.Interface, resync time.Duration) inform.Factory
	Log       *slog.Logger
	// Report is told of the agent's parts. Of the agent itself the server knows.
	Report *Report
}

// as puts a user into the requests that it passes on.
type as struct {
	user user.Info
	next http.RoundTripper
}

func (a as) RoundTrip(req *http.Request) (*http.Response, error) {
	return a.next.RoundTrip(req.WithContext(request.WithUser(req.Context(), a.user)))
}

// While is the same cluster, for as long as over returns nil. After that requests are refused, and what they were about to write
// does not get into a commit any more.
func (in Inside) While(over func() error) Inside {
	open := in.As
	in.As = func(who user.Info) *rest.Config {
		config := open(who)
		config.Wrap(func(next http.RoundTripper) http.RoundTripper { return while{over, next} })
		return config
	}
	return in
}

type while struct {
	over func() error
	next http.RoundTripper
}

func (w while) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := w.over(); err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, fmt.Errorf("refused: %w", err)
	}
	return w.next.RoundTrip(req.WithContext(commit.While(req.Context(), w.over)))
}

func (c *ControlPlane) inside(name string) Inside {
	return Inside{
		Cluster: c.cfg.Name, Identity: c.identity, Informers: c.resources.NewFactory, Log: c.cfg.Log.With("agent", name),
		Report: &Report{agent: name, parts: &c.checks.Parts, metrics: c.cfg.Metrics.agentMetrics()},
		As: func(who user.Info) *rest.Config {
			return &rest.Config{
				Host: "http://apiserver", Transport: as{who, loopback.Transport{Handler: c.agents}}, QPS: -1, UserAgent: userAgent,
				ContentConfig: rest.ContentConfig{
					ContentType: runtime.ContentTypeProtobuf, AcceptContentTypes: runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON,
				},
			}
		},
	}
}

// StopAgents tells the agents to stop, so that others may act while this replica still answers.
func (c *ControlPlane) StopAgents() { c.stopActing() }

// runAgents runs the cluster's agents from when it has its first objects.
func (c *ControlPlane) runAgents(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(c.acting, stop)()
	select {
	case <-c.bootstrapped:
	case <-ctx.Done():
		return nil
	}
	var group wait.Group
	for _, a := range c.cfg.Agents {
		group.StartWithContext(ctx, func(ctx context.Context) { c.runAgent(ctx, a) })
	}
	group.Wait()
	return nil
}

// Bounds of the wait before an agent is started again, and how long one must have run well to be forgiven.
const (
	firstRestart = time.Second
	lastRestart  = time.Minute
	forgiven     = 10 * time.Minute
)

func (c *ControlPlane) runAgent(ctx context.Context, a Agent) {
	in := c.inside(a.Name)
	defer in.Report.Down("", nil)
	for delay := firstRestart; ; delay = min(2*delay, lastRestart) {
		began := time.Now()
		in.Report.Up("")
		err := runOnce(ctx, a, in)
		if ctx.Err() != nil {
			return
		}
		in.Report.Down("", err)
		if time.Since(began) > forgiven {
			delay = firstRestart
		}
		after := wait.Jitter(delay, 0.2).Round(time.Millisecond)
		in.Log.Error("Agent stopped and is started again", "err", err, "after", after)
		select {
		case <-time.After(after):
		case <-ctx.Done():
			return
		}
	}
}

var errEnded = errors.New("it ended by itself")

func runOnce(ctx context.Context, a Agent, in Inside) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
			in.Log.Error("Agent panicked", "err", err, "stack", string(debug.Stack()))
		}
	}()
	if err := a.Run(ctx, in); err != nil {
		return err
	}
	return errEnded
}
