package controllers

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/sets"
	cliflag "k8s.io/component-base/cli/flag"
	controllermanager "k8s.io/controller-manager/app"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app"
	kcmconfig "k8s.io/kubernetes/cmd/kube-controller-manager/app/config"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app/options"
	"k8s.io/kubernetes/pkg/controller/apis/config"
)

// Options are kube-controller-manager's flags that say what loops do; those of its own server, clients and logs are not
// among them.
type Options struct {
	upstream *options.KubeControllerManagerOptions
	set      bool // the registry of the process's versions
}

// NewOptions returns kube-controller-manager's defaults.
func NewOptions() *Options {
	o, err := options.NewKubeControllerManagerOptions()
	if err != nil {
		panic(err) // upstream's own defaults do not convert: nothing that a user said
	}
	o.SecureServing.BindPort = 0
	// Another takes over within 15 seconds after a process was killed, wherever between two renewals that was; with upstream's
	// lease of 15 it would be more.
	elect := &o.Generic.LeaderElection
	elect.LeaseDuration.Duration, elect.RenewDeadline.Duration, elect.RetryPeriod.Duration = 8*time.Second, 5*time.Second, 2*time.Second
	return &Options{upstream: o}
}

// Elects is the value of --leader-elect.
func (o *Options) Elects() bool { return o.upstream.Generic.LeaderElection.LeaderElect }

// Some tells whether any loop is on.
func Some(c config.KubeControllerManagerConfiguration) bool {
	for name, d := range app.NewControllerDescriptors() {
		off := sets.NewString()
		if d.IsDisabledByDefault() {
			off.Insert(name)
		}
		if controllermanager.IsControllerEnabled(name, off, c.Generic.Controllers) {
			return true
		}
	}
	return controllermanager.IsControllerEnabled(PodNetworks, sets.NewString(), c.Generic.Controllers)
}

// loopNames are those that --controllers knows.
func loopNames() []string {
	names := append(app.KnownControllers(), PodNetworks)
	slices.Sort(names)
	return names
}

// not are the sections of kube-controller-manager's flags that belong to the process.
var not = map[string]bool{
	"debugging": true, "leader-migration": true, "secure serving": true, "authentication": true, "authorization": true,
	"metrics": true, "logs": true, "misc": true, "deprecated": true,
}

// FlagSets returns the flags by section.
func (o *Options) FlagSets() cliflag.NamedFlagSets {
	all := o.upstream.Flags(loopNames(), app.ControllersDisabledByDefault(), app.ControllerAliases())
	var kept cliflag.NamedFlagSets
	for _, name := range all.Order {
		if !not[name] {
			kept.FlagSet(name).AddFlagSet(all.FlagSets[name])
		}
	}
	return kept
}

// Config checks what was said and returns the loops' configuration.
func (o *Options) Config() (config.KubeControllerManagerConfiguration, error) {
	if !o.set { // upstream does it on the way, with a warning that it is late
		if err := o.upstream.ComponentGlobalsRegistry.Set(); err != nil {
			return config.KubeControllerManagerConfiguration{}, err
		}
		o.set = true
	}
	known, off, aliases := loopNames(), app.ControllersDisabledByDefault(), app.ControllerAliases()
	if err := CheckNames(o.upstream.Generic.Controllers); err != nil {
		return config.KubeControllerManagerConfiguration{}, err
	}
	if err := o.upstream.Validate(known, off, aliases); err != nil {
		return config.KubeControllerManagerConfiguration{}, err
	}
	var c kcmconfig.Config
	if err := o.upstream.ApplyTo(&c, known, off, aliases); err != nil {
		return c.ComponentConfig, err
	}
	return c.ComponentConfig, check(c.ComponentConfig)
}

// CheckNames says of the value of --controllers what upstream's validation does, and of which flag.
func CheckNames(said []string) error {
	known, aliases := loopNames(), app.ControllerAliases()
	var errs []error
	for _, name := range said {
		name = strings.TrimPrefix(name, "-")
		if name == "*" || aliases[name] != "" || slices.Contains(known, name) {
			continue
		}
		errs = append(errs, fmt.Errorf("--controllers: %q is not in the list of known controllers", name))
	}
	return errors.Join(errs...)
}
