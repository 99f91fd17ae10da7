// Package fairness shares a cluster's seats among those who ask at the same time: API Priority and Fairness as the
// cluster's FlowSchemas and PriorityLevelConfigurations describe it, or, where that is turned off, two plain bounds. Each
// cluster has seats of its own, so a tenant that asks too much waits for itself.
package fairness

import (
	"context"
	"net/http"
	"sync"
	"time"

	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/server/filters"
	"k8s.io/apiserver/pkg/server/mux"
	"k8s.io/apiserver/pkg/util/flowcontrol"
	"k8s.io/apiserver/pkg/util/flowcontrol/fairqueuing/eventclock"
	fqs "k8s.io/apiserver/pkg/util/flowcontrol/fairqueuing/queueset"
	"k8s.io/apiserver/pkg/util/flowcontrol/metrics"
	fcrequest "k8s.io/apiserver/pkg/util/flowcontrol/request"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"

	"github.com/rowlock-io/rowlock/storage/cache"
)

// Limits are kube-apiserver's flags of the same names. The zero value is its defaults.
type Limits struct {
	// ReadOnly and Mutating bound the requests under way; with Priority and Fairness their sum is the number of seats.
	// Negative: none are counted.
	ReadOnly, Mutating int
	// Plain turns Priority and Fairness off: what goes beyond the bounds is refused at once.
	Plain bool
}

// Defaults of --max-requests-inflight and --max-mutating-requests-inflight.
const (
	DefaultReadOnly = 400
	DefaultMutating = 200
)

func (l Limits) readOnly() int { return bound(l.ReadOnly, DefaultReadOnly) }
func (l Limits) mutating() int { return bound(l.Mutating, DefaultMutating) }

func bound(n, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return max(n, 0)
}

// Config is what the seats of one cluster are made from.
type Config struct {
	Limits      Limits
	Client      kubernetes.Interface // writes the status of flow schemas
	Informers   informers.SharedInformerFactory
	Cache       *cache.Cache // knows how much there is of each resource
	LongRunning request.LongRunningRequestCheck
	Timeout     time.Duration // of requests; they wait for a seat a quarter of it at most
	// Process tells that this cluster's operator is the process's: it keeps what the process counts for all clusters.
	Process bool
	Marks   *Marks // of the process; nil: requests are not counted for it
}

// Fairness shares the seats of one cluster.
type Fairness struct {
	cfg  Config
	flow flowcontrol.Interface // nil: plain bounds
	work fcrequest.WorkEstimatorFunc

	classes classes
}

// New builds what Run makes work. It asks for informers, so it is called before they start.
func New(cfg Config) *Fairness {
	metrics.Register()
	f := &Fairness{cfg: cfg}
	if cfg.Limits.Plain {
		return f
	}
	clk := eventclock.Real{}
	f.flow = flowcontrol.NewTestable(flowcontrol.TestableConfig{ // what flowcontrol.New passes, but for the queue sets
		Name: "Controller", Clock: clk, AsFieldManager: flowcontrol.ConfigConsumerAsFieldManager,
		FoundToDangling: func(found bool) bool { return !found },
		InformerFactory: cfg.Informers, FlowcontrolClient: cfg.Client.FlowcontrolV1(),
		ServerConcurrencyLimit: cfg.Limits.readOnly() + cfg.Limits.mutating(),
		ReqsGaugeVec:           metrics.PriorityLevelConcurrencyGaugeVec, ExecSeatsGaugeVec: metrics.PriorityLevelExecutionSeatsGaugeVec,
		QueueSetFactory: factory{fqs.NewQueueSetFactory(clk), &f.classes.changed},
	})
	sizes := sizes{cache: cfg.Cache}
	f.work = fcrequest.NewWorkEstimator(sizes.of, f.flow.GetInterestedWatchCount, fcrequest.DefaultWorkEstimatorConfig(), f.flow.GetMaxSeats)
	return f
}

// Filter makes requests wait for a seat. It needs their user and their RequestInfo.
func (f *Fairness) Filter(handler http.Handler) http.Handler {
	if f.flow == nil {
		return filters.WithMaxInFlightLimit(handler, f.cfg.Limits.readOnly(), f.cfg.Limits.mutating(), f.cfg.LongRunning)
	}
	return &fair{Fairness: f, next: handler, dropped: flowcontrol.NewDroppedRequestsTracker()}
}

// Debug is the prefix of the paths that show seats and queues, and what answers there; nil where there are none.
func (f *Fairness) Debug() (prefix string, handler http.Handler) {
	const paths = "/debug/api_priority_and_fairness/"
	if f.flow == nil {
		return paths, nil
	}
	m := mux.NewPathRecorderMux("fairness")
	f.flow.Install(m)
	return paths, m
}

// Run follows the cluster's configuration until ctx ends.
func (f *Fairness) Run(ctx context.Context) error {
	if f.flow == nil {
		if f.cfg.Process {
			filters.StartMaxInFlightWatermarkMaintenance(ctx.Done())
		}
		return nil
	}
	if f.cfg.Process {
		var reporting sync.WaitGroup
		defer reporting.Wait()
		reporting.Go(func() { f.cfg.Marks.report(ctx) })
	}
	if err := f.flow.Run(ctx.Done()); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}
