package main

import (
	"testing"

	"github.com/spf13/pflag"
)

// Where the server's machine is a node its pods have addresses, unless somebody says which, or that they have none.
func TestLocalPodsHaveAddresses(t *testing.T) {
	for name, tc := range map[string]struct {
		args     []string
		allocate bool
		cidr     string
	}{
		"nothing said": {nil, true, localPods},
		"a range":      {[]string{"--cluster-cidr=10.1.0.0/16"}, false, "10.1.0.0/16"},
		"all said":     {[]string{"--cluster-cidr=10.1.0.0/16", "--allocate-node-cidrs"}, true, "10.1.0.0/16"},
		"none":         {[]string{"--allocate-node-cidrs=false"}, false, ""},
	} {
		var o agentOptions
		fs := pflag.NewFlagSet("up", pflag.ContinueOnError)
		o.addFlags(fs)
		if err := fs.Parse(tc.args); err != nil {
			t.Fatal(err)
		}
		if err := o.network(fs); err != nil {
			t.Fatal(err)
		}
		allocate, err := fs.GetBool("allocate-node-cidrs")
		if err != nil || allocate != tc.allocate || o.clusterCIDR() != tc.cidr {
			t.Errorf("%s: %v, from %q, %v", name, allocate, o.clusterCIDR(), err)
		}
	}
}
