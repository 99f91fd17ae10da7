package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/pflag"

	"github.com/rowlock-io/rowlock/server/encryption"
)

// encryptionOptions say how objects are encrypted in the database.
type encryptionOptions struct {
	Config string
	Reload bool
}

func (o *encryptionOptions) addFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.Config, "encryption-provider-config", "", "file of an EncryptionConfiguration, which says how resources are encrypted in the database; what it does not speak of is kept as without it: Secrets are encrypted with keys that each cluster makes for itself")
	fs.BoolVar(&o.Reload, "encryption-provider-config-automatic-reload", false, "follow changes of the file of --encryption-provider-config; the health of all KMS plugins is then one check, kms-providers")
}

func (o *encryptionOptions) validate() error {
	if o.Reload && o.Config == "" {
		return errors.New("--encryption-provider-config-automatic-reload must be set with --encryption-provider-config")
	}
	return nil
}

// open reads the configuration; nil: there is none.
func (o *encryptionOptions) open(ctx context.Context, log *slog.Logger) (*encryption.Providers, error) {
	if o.Config == "" {
		return nil, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	p, err := encryption.OpenProviders(ctx, encryption.ProvidersConfig{File: o.Config, Reload: o.Reload, Server: host, Log: log})
	if err != nil {
		return nil, fmt.Errorf("--encryption-provider-config: %w", err)
	}
	return p, nil
}

// start opens the configuration and follows it until stop is called.
func (o *encryptionOptions) start(ctx context.Context, log *slog.Logger) (p *encryption.Providers, stop func(), err error) {
	p, err = o.open(ctx, log)
	if p == nil {
		return nil, func() {}, err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Run(ctx)
	}()
	return p, func() {
		cancel()
		<-done
		p.Close()
	}, nil
}
