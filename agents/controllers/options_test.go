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
	for _, tt := range []struct {
		name string
		args []string
		want string // in the error; empty: none
	}{
		{"nothing", nil, ""},
		{"none", []string{"--controllers="}, ""},
		{"alias", []string{"--controllers=*,-deployment,tokencleaner"}, ""},
		{"unknown controller", []string{"--controllers=*,-foo"}, `--controllers: "foo" is not in the list of known controllers`},
		{"no such root", []string{"--root-ca-file=/none"}, "--root-ca-file: open /none: no such file or directory"},
		{"root is none", []string{"--root-ca-file=" + garbage}, "--root-ca-file: error reading " + garbage},
		{"certificate without key", []string{"--cluster-signing-cert-file=/none"}, "--cluster-signing-cert-file and --cluster-signing-key-file must be given together"},
		{"no such signer", []string{"--cluster-signing-kubelet-client-cert-file=/none", "--cluster-signing-kubelet-client-key-file=/none"}, "--cluster-signing-kubelet-client-cert-file, --cluster-signing-kubelet-client-key-file: open /none"},
		{"signer is none", []string{"--cluster-signing-cert-file=" + garbage, "--cluster-signing-key-file=" + garbage}, "--cluster-signing-cert-file, --cluster-signing-key-file: "},
		{"ranges of nodes without a range", []string{"--allocate-node-cidrs"}, "--allocate-node-cidrs needs --cluster-cidr: "},
		{"ranges of nodes", []string{"--allocate-node-cidrs", "--cluster-cidr=10.1.0.0/16"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := NewOptions()
			fs := pflag.NewFlagSet("", pflag.ContinueOnError)
			for _, set := range o.FlagSets().FlagSets {
				fs.AddFlagSet(set)
			}
			if err := fs.Parse(tt.args); err != nil {
				t.Fatal(err)
			}
			switch _, err := o.Config(); {
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
	for _, name := range []string{"deployment-controller", "garbage-collector-controller", "namespace-controller", "node-lifecycle-controller", "resourcequota-controller"} {
		if !slices.Contains(names, name) {
			t.Errorf("%s does not run", name)
		}
	}
	for _, name := range []string{"clusterrole-aggregation-controller", "cloud-node-lifecycle-controller", "bootstrap-signer-controller", "token-cleaner-controller", "serviceaccount-token-controller"} {
		if slices.Contains(names, name) {
			t.Errorf("%s runs", name)
		}
	}
	if !slices.IsSorted(names) {
		t.Errorf("not in order: %v", names)
	}
}
