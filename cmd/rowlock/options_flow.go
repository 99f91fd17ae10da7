package main

import (
	"errors"

	"github.com/spf13/pflag"

	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/fairness"
)

// flowOptions say how many requests are served at a time. The flags are kube-apiserver's.
type flowOptions struct {
	fair               bool
	readOnly, mutating int
}

func (o *flowOptions) addFlags(fs *pflag.FlagSet) {
	fs.BoolVar(&o.fair, "enable-priority-and-fairness", true, "let requests beyond what is served at a time wait in fair queues; false refuses them")
	fs.IntVar(&o.readOnly, "max-requests-inflight", fairness.DefaultReadOnly, "with --max-mutating-requests-inflight the number of seats of each cluster; without priority and fairness the reading requests it serves at a time, 0 without bound")
	fs.IntVar(&o.mutating, "max-mutating-requests-inflight", fairness.DefaultMutating, "with --max-requests-inflight the number of seats of each cluster; without priority and fairness the writing requests it serves at a time, 0 without bound")
}

func (o *flowOptions) validate() error {
	var errs []error
	if o.readOnly < 0 {
		errs = append(errs, errors.New("--max-requests-inflight can not be negative value"))
	}
	if o.mutating < 0 {
		errs = append(errs, errors.New("--max-mutating-requests-inflight can not be negative value"))
	}
	if o.fair && o.readOnly+o.mutating == 0 {
		errs = append(errs, errors.New("--max-requests-inflight and --max-mutating-requests-inflight must add up to something positive"))
	}
	return errors.Join(errs...)
}

func (o *flowOptions) limits() controlplane.Flow {
	return controlplane.Flow{Plain: !o.fair, ReadOnly: given(o.readOnly), Mutating: given(o.mutating)}
}

// given tells a 0 that was asked for from one that nobody set.
func given(n int) int {
	if n == 0 {
		return -1
	}
	return n
}
