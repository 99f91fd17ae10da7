package controllers

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestOptions(t *testing.T) {
	t.Parallel()
	garbage := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(garbage, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	cert, key := newCA(t).files(t)
	chain := filepath.Join(t.TempDir(), "chain")
	pem, err := os.ReadFile(cert)
	if err == nil {
		err = os.WriteFile(chain, slices.Concat(pem, pem), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		args []string
		want string // in the error; empty: none
	}{
		{"nothing", nil, ""},
		{"none", []string{"--controllers="}, ""},
		{"our own", []string{"--controllers=*,-pod-network-controller"}, ""},
		{"alias", []string{"--controllers=*,-deployment,tokencleaner"}, ""},
		{"unknown controller", []string{"--controllers=*,-foo"}, `--controllers: "foo" is not in the list of known controllers`},
		{"no such root", []string{"--root-ca-file=/none"}, "--root-ca-file: open /none: no such file or directory"},
		{"root is none", []string{"--root-ca-file=" + garbage}, "--root-ca-file: error reading " + garbage},
		{"certificate without key", []string{"--cluster-signing-cert-file=/none"}, "--cluster-signing-cert-file and --cluster-signing-key-file must be given together"},
		{"no such signer", []string{"--cluster-signing-kubelet-client-cert-file=/none", "--cluster-signing-kubelet-client-key-file=/none"}, "--cluster-signing-kubelet-client-cert-file=/none, --cluster-signing-kubelet-client-key-file=/none: open /none"},
		{"signer is none", []string{"--cluster-signing-cert-file=" + garbage, "--cluster-signing-key-file=" + garbage}, "--cluster-signing-cert-file=" + garbage + ", --cluster-signing-key-file=" + garbage + ": "},
		{"signer", []string{"--cluster-signing-cert-file=" + cert, "--cluster-signing-key-file=" + key}, ""},
		{"signer of two certificates", []string{"--cluster-signing-cert-file=" + chain, "--cluster-signing-key-file=" + key}, "--cluster-signing-key-file=" + key + ": expected 1 certificate, found 2"},
		{
			"signer for all, and for one",
			[]string{"--cluster-signing-cert-file=" + cert, "--cluster-signing-key-file=" + key, "--cluster-signing-legacy-unknown-cert-file=" + cert, "--cluster-signing-legacy-unknown-key-file=" + key},
			"cannot specify --cluster-signing-{cert,key}-file and other --cluster-signing-*-file flags at the same time",
		},
		{"key without certificate", []string{"--cluster-signing-legacy-unknown-key-file=" + key}, `"cluster-signing-legacy-unknown": cannot specify key without cert`},
		{"no such template", []string{"--pv-recycler-pod-template-filepath-nfs=/none"}, "--pv-recycler-pod-template-filepath-nfs=/none: "},
		{"template is none", []string{"--pv-recycler-pod-template-filepath-hostpath=" + garbage}, "--pv-recycler-pod-template-filepath-hostpath=" + garbage + ": "},
		{"number is none", []string{"--concurrent-gc-syncs=many"}, "--concurrent-gc-syncs"},
		{"period is none", []string{"--node-monitor-period=5"}, "--node-monitor-period"},
		{"ranges of nodes without a range", []string{"--allocate-node-cidrs"}, "--allocate-node-cidrs needs --cluster-cidr: "},
		{"ranges of nodes", []string{"--allocate-node-cidrs", "--cluster-cidr=10.1.0.0/16"}, ""},
		{"range is none", []string{"--allocate-node-cidrs", "--cluster-cidr=10.1.0.0"}, "--allocate-node-cidrs needs --cluster-cidr: "},
		{"both families", []string{"--allocate-node-cidrs", "--cluster-cidr=10.1.0.0/16,fd00::/56"}, ""},
		{"two of a family", []string{"--allocate-node-cidrs", "--cluster-cidr=10.1.0.0/16,10.2.0.0/16"}, "--cluster-cidr=10.1.0.0/16,10.2.0.0/16: expected one range, or two"},
		{"three", []string{"--allocate-node-cidrs", "--cluster-cidr=10.1.0.0/16,fd00::/56,10.2.0.0/16"}, "10.2.0.0/16: expected one range, or two"},
		{"mask of both", []string{"--allocate-node-cidrs", "--cluster-cidr=10.1.0.0/16,fd00::/56", "--node-cidr-mask-size=24"}, "--node-cidr-mask-size is not allowed with dual-stack"},
		{"mask said twice", []string{"--allocate-node-cidrs", "--cluster-cidr=10.1.0.0/16", "--node-cidr-mask-size=24", "--node-cidr-mask-size-ipv4=24"}, "--node-cidr-mask-size-ipv4 is not allowed if"},
		{"mask of the other family", []string{"--allocate-node-cidrs", "--cluster-cidr=10.1.0.0/16", "--node-cidr-mask-size-ipv6=64"}, "--node-cidr-mask-size-ipv6 is not allowed for"},
		{"mask of another family", []string{"--allocate-node-cidrs", "--cluster-cidr=fd00::/56", "--node-cidr-mask-size-ipv4=24"}, "--node-cidr-mask-size-ipv4 is not allowed for"},
		{"a cloud's ranges", []string{"--allocate-node-cidrs", "--cluster-cidr=10.1.0.0/16", "--cidr-allocator-type=CloudAllocator"}, "CloudAllocator is not available"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := NewOptions()
			fs := pflag.NewFlagSet("", pflag.ContinueOnError)
			for _, set := range o.FlagSets().FlagSets {
				fs.AddFlagSet(set)
			}
			err := fs.Parse(tt.args)
			if err == nil {
				_, err = o.Config()
			}
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("error %v, want %q in it", err, tt.want)
			}
		})
	}
}

// The loops are kube-controller-manager's own list, without what has no place in a server.
func TestLoopsByDefault(t *testing.T) {
	t.Parallel()
	loops, err := NewOptions().Config()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range makers(Config{Loops: loops}) {
		names = append(names, m.name)
	}
	for _, name := range []string{"deployment-controller", "garbage-collector-controller", "namespace-controller", "node-lifecycle-controller", "resourcequota-controller", "bootstrap-signer-controller", "token-cleaner-controller", "pod-network-controller"} {
		if !slices.Contains(names, name) {
			t.Errorf("%s does not run", name)
		}
	}
	for _, name := range []string{"clusterrole-aggregation-controller", "cloud-node-lifecycle-controller", "serviceaccount-token-controller"} {
		if slices.Contains(names, name) {
			t.Errorf("%s runs", name)
		}
	}
	if !slices.IsSorted(names) {
		t.Errorf("not in order: %v", names)
	}
}
