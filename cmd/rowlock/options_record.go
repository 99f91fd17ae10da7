package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/spf13/pflag"
	apioptions "k8s.io/apiserver/pkg/server/options"

	"github.com/rowlock-io/rowlock/server/audit"
	"github.com/rowlock-io/rowlock/server/controlplane"
)

// recordOptions say what is recorded of requests, and where. The flags are kube-apiserver's.
type recordOptions struct {
	audit *apioptions.AuditOptions
}

func (o *recordOptions) addFlags(fs *pflag.FlagSet) {
	o.audit = apioptions.NewAuditOptions()
	o.audit.AddFlags(fs)
}

func (o *recordOptions) validate() error { return errors.Join(o.audit.Validate()...) }

// start opens what is recorded to. stop is called when no request can come any more; it delivers what is left.
func (o *recordOptions) start(log *slog.Logger) (record controlplane.Record, stop func(), err error) {
	if record.Audit, err = audit.Open(o.audit); err != nil {
		return record, nil, err
	}
	if record.Audit == nil {
		if o.audit.LogOptions.Path != "" || o.audit.WebhookOptions.ConfigFile != "" {
			log.Warn("No requests are recorded: --audit-policy-file is not set")
		}
		return record, func() {}, nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- record.Audit.Run(ctx, drainTimeout) }()
	return record, func() {
		cancel()
		if err := <-done; err != nil {
			log.Error("Recording of requests ended badly", "err", err)
		}
	}, nil
}
