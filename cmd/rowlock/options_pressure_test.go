package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	"k8s.io/kubernetes/pkg/kubelet/eviction/api"

	"github.com/rowlock-io/rowlock/agents/node"
	"github.com/rowlock-io/rowlock/agents/node/shutdown"
)

// TestPressureFlags: what a kubelet's flags say is what they say here.
func TestPressureFlags(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args     []string
		want     []string // thresholds
		shutdown []shutdown.Period
		wrong    string
	}{
		{want: []string{"memory.available", "nodefs.available", "nodefs.inodesFree", "imagefs.available", "imagefs.inodesFree"}},
		{
			args: []string{"--eviction-hard=memory.available<5%,pid.available<100", "--eviction-soft=nodefs.available<20%", "--eviction-soft-grace-period=nodefs.available=2m", "--eviction-minimum-reclaim=pid.available=50"},
			want: []string{"memory.available", "pid.available +50", "nodefs.available 2m0s"},
		},
		{args: []string{"--eviction-hard=", "--shutdown-grace-period=30s", "--shutdown-grace-period-critical-pods=10s"}, shutdown: []shutdown.Period{{Grace: 20 * time.Second}, {Priority: 2000000000, Grace: 10 * time.Second}}},
		{args: []string{"--eviction-hard=", "--shutdown-grace-period-by-pod-priority=0=30,-10=5"}, shutdown: []shutdown.Period{{Priority: -10, Grace: 5 * time.Second}, {Grace: 30 * time.Second}}},
		{args: []string{"--eviction-hard=memory<1Gi"}, wrong: "unsupported eviction signal memory"},
		{args: []string{"--eviction-soft=memory.available<1Gi"}, wrong: "grace period must be specified for the soft eviction threshold memory.available"},
		{args: []string{"--eviction-pressure-transition-period=-1s"}, wrong: "must not be negative"},
		{args: []string{"--shutdown-grace-period=10s", "--shutdown-grace-period-critical-pods=20s"}, wrong: "must be <="},
		{args: []string{"--shutdown-grace-period=10s", "--shutdown-grace-period-by-pod-priority=0=30"}, wrong: "only one of"},
		{args: []string{"--shutdown-grace-period-by-pod-priority=high=30"}, wrong: "high=30: must be a priority"},
	} {
		var o pressureOptions
		fs := pflag.NewFlagSet("", pflag.ContinueOnError)
		o.addFlags(fs)
		if err := fs.Parse(tc.args); err != nil {
			t.Fatal(err)
		}
		var cfg node.Config
		err := o.complete(&cfg)
		if tc.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), tc.wrong) {
				t.Errorf("%v: %v, want %q", tc.args, err, tc.wrong)
			}
			continue
		}
		if err != nil {
			t.Errorf("%v: %v", tc.args, err)
		}
		var got []string
		for _, one := range cfg.Eviction.Thresholds {
			got = append(got, said(one))
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%v: %s", tc.args, diff)
		}
		if diff := cmp.Diff(tc.shutdown, cfg.Shutdown); diff != "" {
			t.Errorf("%v: %s", tc.args, diff)
		}
	}
}

func said(t api.Threshold) string {
	text := string(t.Signal)
	if t.GracePeriod != 0 {
		text += " " + t.GracePeriod.String()
	}
	if t.MinReclaim != nil {
		text += " +" + t.MinReclaim.Quantity.String()
	}
	return text
}
