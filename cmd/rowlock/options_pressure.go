package main

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/pflag"
	cliflag "k8s.io/component-base/cli/flag"
	upstream "k8s.io/kubernetes/pkg/kubelet/eviction"

	"github.com/rowlock-io/rowlock/agents/node"
	"github.com/rowlock-io/rowlock/agents/node/eviction"
	"github.com/rowlock-io/rowlock/agents/node/shutdown"
)

// pressureOptions say when pods give way: to what the machine needs, and to its shutdown. The flags are the kubelet's, and where it has
// none, named as in its configuration.
type pressureOptions struct {
	hard, soft map[string]string // thresholds by signals
	grace      map[string]string
	reclaim    map[string]string
	transition time.Duration
	maxGrace   int32
	limits     bool

	shutdown         time.Duration
	shutdownCritical time.Duration
	shutdownBy       map[string]int64 // seconds, by priorities
}

func (o *pressureOptions) addFlags(fs *pflag.FlagSet) {
	o.hard = maps.Clone(upstream.DefaultEvictionHard)
	fs.Var(cliflag.NewLangleSeparatedMapStringString(&o.hard), "eviction-hard", "what is to stay free, or pods are evicted at once: memory.available<100Mi,nodefs.available<10%; of nodefs, imagefs and pid, available and inodesFree. What is named takes the place of all defaults")
	fs.Var(cliflag.NewLangleSeparatedMapStringString(&o.soft), "eviction-soft", "what is to stay free, or pods are evicted after the time that --eviction-soft-grace-period gives")
	fs.Var(cliflag.NewMapStringString(&o.grace), "eviction-soft-grace-period", "how long there may be less than a soft threshold: memory.available=1m30s")
	fs.Var(cliflag.NewMapStringString(&o.reclaim), "eviction-minimum-reclaim", "how much more than its threshold is to be free once something ran low: nodefs.available=500Mi")
	fs.DurationVar(&o.transition, "eviction-pressure-transition-period", 5*time.Minute, "for how long the node says that it is under pressure after it was so")
	fs.Int32Var(&o.maxGrace, "eviction-max-pod-grace-period", 0, "how many seconds a pod has at most to end when a soft threshold evicts it; negative: as many as it says itself")
	fs.BoolVar(&o.limits, "local-storage-capacity-isolation", true, "evict pods that put more on the disk than their limits of ephemeral-storage, or the sizeLimit of an emptyDir")
	fs.DurationVar(&o.shutdown, "shutdown-grace-period", 0, "how long a shutdown of the machine is held up, by systemd's logind, for pods to end; 0: it is not")
	fs.DurationVar(&o.shutdownCritical, "shutdown-grace-period-critical-pods", 0, "the last part of --shutdown-grace-period, which critical pods have for themselves")
	fs.StringToInt64Var(&o.shutdownBy, "shutdown-grace-period-by-pod-priority", nil, "in place of --shutdown-grace-period: how many seconds pods of each priority, and up to the next, have to end: 0=30,1000000=20,2000000000=10; the lowest end first")
	for _, name := range []string{"shutdown-grace-period", "shutdown-grace-period-critical-pods", "shutdown-grace-period-by-pod-priority"} {
		_ = fs.SetAnnotation(name, groupAnnotation, []string{"Node"}) // other flags that begin so are of the server
	}
}

// complete puts it into a node's configuration, which has said whether pods have cgroups.
func (o *pressureOptions) complete(cfg *node.Config) error {
	var errs []error
	thresholds, err := eviction.Parse(o.hard, o.soft, o.grace, o.reclaim, cfg.Cgroups)
	if err != nil {
		errs = append(errs, fmt.Errorf("--eviction-…: %w", err))
	}
	if o.transition < 0 {
		errs = append(errs, errors.New("--eviction-pressure-transition-period must not be negative"))
	}
	cfg.Eviction = eviction.Policy{Thresholds: thresholds, Transition: o.transition, MaxGrace: int64(o.maxGrace), Limits: o.limits}
	cfg.Shutdown, err = o.periods()
	return errors.Join(append(errs, err)...)
}

func (o *pressureOptions) periods() ([]shutdown.Period, error) {
	if len(o.shutdownBy) == 0 {
		periods, err := shutdown.Periods(o.shutdown, o.shutdownCritical)
		if err != nil {
			return nil, fmt.Errorf("--shutdown-grace-period: %w", err)
		}
		return periods, nil
	}
	if o.shutdown != 0 || o.shutdownCritical != 0 {
		return nil, errors.New("only one of --shutdown-grace-period and --shutdown-grace-period-by-pod-priority may be given")
	}
	var periods []shutdown.Period
	for _, text := range slices.Sorted(maps.Keys(o.shutdownBy)) {
		priority, err := strconv.ParseInt(text, 10, 32)
		seconds := o.shutdownBy[text]
		if err != nil || seconds < 0 || seconds > math.MaxInt32 {
			return nil, fmt.Errorf("--shutdown-grace-period-by-pod-priority: %s=%d: must be a priority and a number of seconds", text, seconds)
		}
		periods = append(periods, shutdown.Period{Priority: int32(priority), Grace: time.Duration(seconds) * time.Second})
	}
	return periods, nil
}
