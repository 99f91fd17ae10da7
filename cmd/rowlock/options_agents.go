package main

import (
	"errors"
	"strings"

	"github.com/spf13/pflag"

	"github.com/rowlock-io/rowlock/agents/controllers"
)

// agentOptions say what acts on the clusters from inside the server. The flags are those of kube-controller-manager and
// kube-scheduler.
type agentOptions struct {
	controllers     *controllers.Options
	scheduler       bool
	schedulerConfig string
	electSaid       func() bool // --leader-elect was given
	own             controllers.Own
	domain          string // of host names of clusters; empty: they have none
}

// notInside are flags of kube-controller-manager about how it reaches a server and what it is trusted with: inside the
// server there is nothing to say about that.
var notInside = map[string]bool{
	"kube-api-content-type": true, "kube-api-qps": true, "kube-api-burst": true, "use-service-account-credentials": true,
	"leader-elect-resource-lock": true, "leader-elect-resource-name": true,
	"service-account-private-key-file": true, "service-cluster-ip-range": true, "controller-start-interval": true, "cluster-name": true,
}

func (o *agentOptions) addFlags(fs *pflag.FlagSet) {
	o.controllers = controllers.NewOptions()
	sets := o.controllers.FlagSets()
	for _, section := range sets.Order {
		group := controllerFlags
		if section != "generic" {
			group = strings.ToUpper(section[:1]) + section[1:]
		}
		sets.FlagSets[section].VisitAll(func(f *pflag.Flag) {
			if !notInside[f.Name] && fs.Lookup(f.Name) == nil {
				f.Annotations = map[string][]string{groupAnnotation: {group}}
				fs.AddFlag(f)
			}
		})
	}
	elect := fs.Lookup("leader-elect")
	elect.Usage = "have one of several servers act on a cluster: that which holds a Lease. The default is true on Postgres, and false on SQLite, which one server has for itself"
	o.electSaid = func() bool { return elect.Changed }
	fs.BoolVar(&o.scheduler, "scheduler", true, "run the scheduler in this process; false leaves it to a rowlock scheduler or kube-scheduler elsewhere")
	fs.StringVar(&o.schedulerConfig, "scheduler-config", "", "file with a KubeSchedulerConfiguration; empty: kube-scheduler's defaults")
}

// elects tells whether the agents of a server stand for election. shared tells that others may serve the same clusters.
func (o *agentOptions) elects(shared bool) bool {
	if o.electSaid() {
		return o.controllers.Elects()
	}
	return shared
}

func (o *agentOptions) validate() error {
	_, loopsErr := o.controllers.Config()
	err := o.validateScheduler()
	return errors.Join(loopsErr, err)
}

// localPods is the range of the pods' addresses where the server's own machine is a node and nobody says otherwise.
const localPods = "10.244.0.0/16"

// network has nodes given addresses for their pods, unless something was said of that.
func (o *agentOptions) network(fs *pflag.FlagSet) error {
	const allocate, from = "allocate-node-cidrs", "cluster-cidr"
	if fs.Changed(allocate) || fs.Changed(from) {
		return nil
	}
	return errors.Join(fs.Set(allocate, "true"), fs.Set(from, localPods))
}

// clusterCIDR is the range of pods' addresses, as it was said.
func (o *agentOptions) clusterCIDR() string {
	loops, err := o.controllers.Config()
	if err != nil {
		return "" // validate has told
	}
	return loops.KubeCloudShared.ClusterCIDR
}
