// Package audit records requests. Which ones, and how much of each, says an audit policy; where the events go say
// kube-apiserver's flags. Policy, events and backends are upstream's.
//
// Promises:
//
//   - One Recorder serves all clusters of a process; each event names its cluster in the annotation ClusterAnnotation, which
//     nothing that a cluster's users configure can change.
//   - A Recorder that is stopped has delivered every event that was buffered, or says that it could not.
//   - Open returns nil when nothing is to be recorded. A nil Recorder costs nothing.
package audit

import (
	"context"
	"fmt"
	"time"

	auditapi "k8s.io/apiserver/pkg/apis/audit"
	upstream "k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/options"
)

// ClusterAnnotation names the cluster of an event.
const ClusterAnnotation = "rowlock.io/cluster"

// Recorder takes the events of all clusters of a process.
type Recorder struct {
	backend upstream.Backend
	policy  upstream.PolicyRuleEvaluator
}

// Open reads the policy and opens the backends; Run makes them work. The result is nil when there is no policy or nowhere
// to write to.
func Open(o *options.AuditOptions) (*Recorder, error) {
	var applied server.Config
	if err := o.ApplyTo(&applied); err != nil {
		return nil, err
	}
	if applied.AuditBackend == nil || applied.AuditPolicyRuleEvaluator == nil {
		return nil, nil
	}
	return &Recorder{backend: applied.AuditBackend, policy: applied.AuditPolicyRuleEvaluator}, nil
}

// Run delivers events until ctx ends, and then those that are buffered, for grace at most: a webhook that does not answer
// is tried for minutes. No event may come after ctx has ended.
func (r *Recorder) Run(ctx context.Context, grace time.Duration) error {
	if err := r.backend.Run(ctx.Done()); err != nil {
		return fmt.Errorf("audit %s: %w", r.backend, err)
	}
	<-ctx.Done()
	done := make(chan struct{})
	go func() {
		r.backend.Shutdown()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-time.After(grace):
		return fmt.Errorf("audit %s: some events were not delivered in %s", r.backend, grace)
	}
}

// Of returns what the filters of one cluster need; two nils when nothing is recorded.
func (r *Recorder) Of(cluster string) (upstream.Sink, upstream.PolicyRuleEvaluator) {
	if r == nil {
		return nil, nil
	}
	return sink{r.backend, cluster}, r.policy
}

// sink names the cluster of its events.
type sink struct {
	backend upstream.Sink
	cluster string
}

// ProcessEvents implements upstream.Sink. The caller holds the lock of the events.
func (s sink) ProcessEvents(events ...*auditapi.Event) bool {
	for _, e := range events {
		if e.Annotations == nil {
			e.Annotations = map[string]string{}
		}
		e.Annotations[ClusterAnnotation] = s.cluster
	}
	return s.backend.ProcessEvents(events...)
}
