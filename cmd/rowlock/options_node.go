package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
	nodeutil "k8s.io/component-helpers/node/util"
	kubeletapis "k8s.io/kubelet/pkg/apis"
	utilflag "k8s.io/kubernetes/pkg/util/flag"

	"github.com/rowlock-io/rowlock/agents/node"
	"github.com/rowlock-io/rowlock/agents/node/register"
	"github.com/rowlock-io/rowlock/agents/node/runtime"
)

// nodeOptions say what node this machine is. The flags are the kubelet's.
type nodeOptions struct {
	hostname    string
	addresses   string
	labels      map[string]string
	taints      []corev1.Taint
	providerID  string
	endpoint    string
	maxPods     int
	podsPerCore int
	system      map[string]string // reserved
	kube        map[string]string // reserved
	pods        podOptions
}

func (o *nodeOptions) addFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.hostname, "hostname-override", "", "name of the node (default: the machine's host name)")
	fs.StringVar(&o.addresses, "node-ip", "", "IP address of the node, or one of each family, separated by a comma; 0.0.0.0 or :: chooses one of that family (default: what the host name leads to, else the address of the interface with the default route)")
	fs.StringToStringVar(&o.labels, "node-labels", nil, "labels that the node registers with: key=value, separated by commas")
	fs.Var(&utilflag.RegisterWithTaintsVar{Value: &o.taints}, "register-with-taints", "taints that the node registers with: key=value:effect, separated by commas")
	fs.StringVar(&o.providerID, "provider-id", "", "what a cloud calls the machine")
	fs.StringVar(&o.endpoint, "container-runtime-endpoint", "", "socket of the container runtime (default: the one of "+strings.Join(runtime.WellKnown(), ", ")+" that is there)")
	fs.IntVar(&o.maxPods, "max-pods", register.MaxPods, "how many pods the node takes")
	fs.IntVar(&o.podsPerCore, "pods-per-core", 0, "how many pods the node takes for each CPU, at most --max-pods; 0 does not look at CPUs")
	fs.StringToStringVar(&o.system, "system-reserved", nil, "what of the machine is kept for the system: cpu=200m,memory=500Mi,ephemeral-storage=1Gi,pid=1000")
	o.pods.addFlags(fs)
	fs.StringToStringVar(&o.kube, "kube-reserved", nil, "what of the machine is kept for the agent and the container runtime, in the same way")
}

// validate reports everything that is wrong at once.
func (o *nodeOptions) validate() error {
	var errs []error
	if name, err := o.name(); err != nil {
		errs = append(errs, fmt.Errorf("--hostname-override: %w", err))
	} else if wrong := validation.IsDNS1123Subdomain(name); len(wrong) > 0 {
		errs = append(errs, fmt.Errorf("--hostname-override: the node's name %q: %s", name, strings.Join(wrong, "; ")))
	}
	if o.maxPods < 0 || o.podsPerCore < 0 {
		errs = append(errs, errors.New("--max-pods and --pods-per-core must not be negative"))
	}
	_, err := o.reserved()
	return errors.Join(append(errs, err, o.checkLabels(), o.pods.complete(&node.Config{}))...)
}

func (o *nodeOptions) name() (string, error) { return nodeutil.GetHostname(o.hostname) }

// checkLabels finds those that a node may not have, which the server would refuse one by one.
func (o *nodeOptions) checkLabels() error {
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(o.labels)) {
		if wrong := validation.IsQualifiedName(key); len(wrong) > 0 {
			errs = append(errs, fmt.Errorf("--node-labels: %q: %s", key, strings.Join(wrong, "; ")))
		}
		if wrong := validation.IsValidLabelValue(o.labels[key]); len(wrong) > 0 {
			errs = append(errs, fmt.Errorf("--node-labels: %q: %s", o.labels[key], strings.Join(wrong, "; ")))
		}
		namespace, _, _ := strings.Cut(key, "/")
		ofKubernetes := strings.HasSuffix("."+namespace, ".kubernetes.io") || strings.HasSuffix("."+namespace, ".k8s.io")
		if ofKubernetes && !kubeletapis.IsKubeletLabel(key) {
			errs = append(errs, fmt.Errorf("--node-labels: %q: a node may not give itself labels of kubernetes.io and k8s.io, other than those that begin with %s, and %s",
				key, strings.Join(kubeletapis.KubeletLabelNamespaces(), ", "), strings.Join(kubeletapis.KubeletLabels(), ", ")))
		}
	}
	return errors.Join(errs...)
}

// reserved is the sum of what is kept from pods.
func (o *nodeOptions) reserved() (corev1.ResourceList, error) {
	sum := corev1.ResourceList{}
	for flag, all := range map[string]map[string]string{"--system-reserved": o.system, "--kube-reserved": o.kube} {
		for name, text := range all {
			switch corev1.ResourceName(name) {
			case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage, "pid":
			default:
				return nil, fmt.Errorf("%s: cannot reserve %q resource", flag, name)
			}
			q, err := resource.ParseQuantity(text)
			if err != nil {
				return nil, fmt.Errorf("%s: failed to parse quantity %q for %q resource: %w", flag, text, name, err)
			}
			if q.Sign() < 0 {
				return nil, fmt.Errorf("%s: resource quantity for %q cannot be negative: %v", flag, name, text)
			}
			total := sum[corev1.ResourceName(name)]
			total.Add(q)
			sum[corev1.ResourceName(name)] = total
		}
	}
	return sum, nil
}

// split is the addresses that were given.
func (o *nodeOptions) split() []string {
	if o.addresses == "" {
		return nil
	}
	all := strings.Split(o.addresses, ",")
	for i := range all {
		all[i] = strings.TrimSpace(all[i])
	}
	return all
}
