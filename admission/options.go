package admission

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	apiserverapi "k8s.io/apiserver/pkg/apis/apiserver"
	apiserverapiv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	apiserverapiv1alpha1 "k8s.io/apiserver/pkg/apis/apiserver/v1alpha1"
	"k8s.io/kubernetes/pkg/kubeapiserver/options"
	"k8s.io/kubernetes/plugin/pkg/admission/network/denyserviceexternalips"
	"k8s.io/kubernetes/plugin/pkg/admission/noderestriction"
)

// configScheme reads the file of --admission-control-config-file.
var configScheme = newConfigScheme()

func newConfigScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{apiserverapi.AddToScheme, apiserverapiv1alpha1.AddToScheme, apiserverapiv1.AddToScheme} {
		utilruntime.Must(add(s))
	}
	return s
}

// Options say which plug-ins run and how. The zero value is the default.
type Options struct {
	Enable     []string // beyond the default ones
	Disable    []string // of the default ones
	ConfigFile string   // AdmissionConfiguration; empty: none
}

// AddFlags adds kube-apiserver's flags.
func (o *Options) AddFlags(fs *pflag.FlagSet) {
	on, all := strings.Join(defaults(), ", "), strings.Join(registered(), ", ")
	fs.StringSliceVar(&o.Enable, "enable-admission-plugins", nil,
		"admission plug-ins to run in addition to the default ones ("+on+"). Comma-delimited list of: "+all+". Their order does not matter")
	fs.StringSliceVar(&o.Disable, "disable-admission-plugins", nil,
		"admission plug-ins not to run although they are default ones ("+on+"). Comma-delimited list of: "+all+". Their order does not matter")
	fs.StringVar(&o.ConfigFile, "admission-control-config-file", "", "file with an AdmissionConfiguration")
}

// Validate reports everything that is wrong, in kube-apiserver's words.
func (o *Options) Validate() error {
	known := sets.New(registered()...)
	var errs []error
	for _, flag := range []struct {
		name  string
		given []string
	}{{"enable", o.Enable}, {"disable", o.Disable}} {
		for _, name := range flag.given {
			if !known.Has(name) {
				errs = append(errs, fmt.Errorf("%s-admission-plugins plugin %q is unknown", flag.name, name))
			}
		}
	}
	if both := sets.New(o.Enable...).Intersection(sets.New(o.Disable...)); both.Len() > 0 {
		errs = append(errs, fmt.Errorf("%v in enable-admission-plugins and disable-admission-plugins overlapped", sets.List(both)))
	}
	return errors.Join(errs...)
}

// Names lists the plug-ins that are on, in the order in which they run.
func (o *Options) Names() []string {
	on := sets.New(defaults()...).Delete(o.Disable...).Insert(o.Enable...)
	return slices.DeleteFunc(slices.Clone(options.AllOrderedPlugins), func(name string) bool { return !on.Has(name) })
}

// defaults are the plug-ins that run unless they are disabled, in order: kube-apiserver's, the one that refuses external IPs
// of services, which let whoever may create a service take over traffic to any address, and the one that keeps nodes to
// their own objects, which the Node authorizer, on by default here, leaves to it.
func defaults() []string {
	off := options.DefaultOffAdmissionPlugins().Delete(denyserviceexternalips.PluginName, noderestriction.PluginName)
	return slices.DeleteFunc(slices.Clone(options.AllOrderedPlugins), off.Has)
}

// registered are all plug-ins by name.
func registered() []string { return slices.Sorted(slices.Values(options.AllOrderedPlugins)) }
