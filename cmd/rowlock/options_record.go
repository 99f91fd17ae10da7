package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/pflag"
	"go.opentelemetry.io/otel"
	apioptions "k8s.io/apiserver/pkg/server/options"

	"github.com/rowlock-io/rowlock/server/audit"
	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/tracing"
)

// recordOptions say what is recorded of requests, and where. The flags are kube-apiserver's.
type recordOptions struct {
	audit   *apioptions.AuditOptions
	tracing *apioptions.TracingOptions
}

func (o *recordOptions) addFlags(fs *pflag.FlagSet) {
	o.audit = apioptions.NewAuditOptions()
	o.audit.AddFlags(fs)
	o.tracing = apioptions.NewTracingOptions()
	o.tracing.AddFlags(fs)
}

func (o *recordOptions) validate() error {
	return errors.Join(append(o.audit.Validate(), o.tracing.Validate()...)...)
}

// start opens what is recorded to. stop is called when no request can come any more; it delivers what is left.
func (o *recordOptions) start(log *slog.Logger) (record controlplane.Record, stop func(), err error) {
	if record.Audit, err = audit.Open(o.audit); err != nil {
		return record, nil, err
	}
	if record.Tracer, err = tracing.Open(o.tracing, instance()); err != nil {
		return record, nil, fmt.Errorf("--tracing-config-file: %w", err)
	}
	stopAudit, stopTracing := o.startAudit(record.Audit, log), startTracing(record.Tracer, log)
	return record, func() {
		stopAudit()
		stopTracing()
	}, nil
}

func (o *recordOptions) startAudit(recorder *audit.Recorder, log *slog.Logger) (stop func()) {
	if recorder == nil {
		if o.audit.LogOptions.Path != "" || o.audit.WebhookOptions.ConfigFile != "" {
			log.Warn("No requests are recorded: --audit-policy-file is not set")
		}
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- recorder.Run(ctx, drainTimeout) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			log.Error("Recording of requests ended badly", "err", err)
		}
	}
}

func startTracing(provider tracing.Provider, log *slog.Logger) (stop func()) {
	if provider == nil {
		return func() {}
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("Spans were not delivered", "err", err) }))
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			log.Warn("Tracing ended badly", "err", err)
		}
	}
}

// flushTimeout bounds the wait for a collector at the end: spans are not worth more.
const flushTimeout = 5 * time.Second

// instance tells this process from others in traces.
func instance() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s-%d", host, os.Getpid())
}
