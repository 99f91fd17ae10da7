package main

import (
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
	"k8s.io/apimachinery/pkg/util/sets"
	cliflag "k8s.io/component-base/cli/flag"
)

// flagGroups are the sections of the help. A flag is in the first that has a beginning of its name, one without a final
// dash being the whole name; else it is among the others.
var flagGroups = []struct {
	name  string
	flags []string
}{
	{"Database and history", []string{"data-dir", "database", "database-file", "history-", "decoded-object-bytes", "memory-limit", "event-ttl"}},
	{"Serving", []string{
		"bind-address", "secure-port", "advertise-address", "external-hostname", "tls-", "cluster-host-suffix", "write-kubeconfig",
		"shutdown-", "cors-", "strict-transport-", "http2-", "permit-", "goaway-",
	}},
	{"Joining", []string{"server", "token", "token-file", "discovery-token-ca-cert-hash", "certificate-authority"}},
	{"Node", []string{
		"agent", "hostname-override", "node-ip", "node-labels", "register-with-taints", "provider-id", "container-runtime-endpoint",
		"max-pods", "pods-per-core", "system-reserved", "kube-reserved", "pod-manifest-path", "pod-logs-dir", "pod-max-pids", "pod-network", "pod-cidr",
		"cluster-dns", "cluster-domain", "resolv-conf", "cgroups-per-qos", "cgroup-root", "cgroup-driver", "cpu-cfs-quota", "seccomp-default",
		"cni-conf-dir", "cni-bin-dir", "kubelet-port", "allowed-unsafe-sysctls", "image-", "container-log-", "registry-", "maximum-dead-",
		"minimum-container-ttl-duration", "minimum-image-ttl-duration", "max-parallel-image-pulls", "preloaded-images-verification-allowlist",
		"eviction-", "local-storage-capacity-isolation",
	}},
	{"Services", []string{"service-cluster-ip-range", "service-node-port-range"}},
	{"Authentication", []string{
		"anonymous-auth", "api-audiences", "authentication-", "client-ca-file", "enable-bootstrap-token-auth", "oidc-", "requestheader-",
		"service-account-", "token-auth-file",
	}},
	{"Authorization", []string{"authorization-", "aggregate-cluster-roles"}},
	{"Admission", []string{"admission-", "enable-admission-", "disable-admission-", "allow-privileged", "default-"}},
	{"Fairness and limits", []string{"enable-priority-and-fairness", "max-", "min-", "request-timeout"}},
	{"Encryption", []string{"encryption-"}},
	{"Audit and tracing", []string{"audit-", "tracing-"}},
	{"Connections to backends and nodes", []string{"enable-aggregator-", "allow-loopback-backends", "deny-backends", "pods-by-tunnel", "proxy-", "peer-", "kubelet-", "egress-", "outbound-"}},
	{"API and features", []string{"feature-gates", "runtime-config", "emulated-", "emulation-", "profiling", "contention-profiling", "node-metrics"}},
	{controllerFlags, nil},
	{"Scheduler", []string{"scheduler", "scheduler-"}},
	{"Simulated nodes", []string{"simulate-"}},
	{"Logging", []string{"logging-", "log-", "v", "vmodule"}},
}

const otherFlags = "Other"

// groupAnnotation names a flag's group where its name does not tell.
const groupAnnotation = "rowlock/group"

const controllerFlags = "Controllers"

// flagGroup is the section of a flag.
func flagGroup(f *pflag.Flag) string {
	if group := f.Annotations[groupAnnotation]; len(group) == 1 {
		return group[0]
	}
	name := f.Name
	for _, group := range flagGroups {
		for _, begin := range group.flags {
			if name == begin || strings.HasSuffix(begin, "-") && strings.HasPrefix(name, begin) {
				return group.name
			}
		}
	}
	return otherFlags
}

// annotated are the groups that flags themselves name, sorted.
func annotated(fs *pflag.FlagSet) []string {
	groups := sets.New[string]()
	fs.VisitAll(func(f *pflag.Flag) { groups.Insert(f.Annotations[groupAnnotation]...) })
	return sets.List(groups)
}

// sections sorts flags into their groups.
func sections(fs *pflag.FlagSet) cliflag.NamedFlagSets {
	var all cliflag.NamedFlagSets
	for _, group := range flagGroups {
		all.FlagSet(group.name)
		if group.name == controllerFlags {
			for _, section := range annotated(fs) {
				all.FlagSet(section)
			}
		}
	}
	fs.VisitAll(func(f *pflag.Flag) { all.FlagSet(flagGroup(f)).AddFlag(f) })
	return all
}

// inSections shows the flags of a command by group in its help.
func inSections(cmd *cobra.Command) *cobra.Command {
	cmd.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		width, _, err := term.GetSize(int(os.Stdout.Fd()))
		if err != nil {
			width = 0 // not a terminal: no line is broken
		}
		cliflag.SetUsageAndHelpFunc(cmd, sections(cmd.Flags()), width)
		cmd.HelpFunc()(cmd, args)
	})
	return cmd
}
