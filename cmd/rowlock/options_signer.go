package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/kubernetes/pkg/apis/authentication/validation"
	"k8s.io/kubernetes/pkg/features"
	"k8s.io/kubernetes/pkg/serviceaccount/externaljwt/plugin"

	"github.com/rowlock-io/rowlock/server/controlplane"
)

// How long a signer may take to tell its keys, and what it can do.
const (
	signerKeysTime     = time.Minute
	signerMetadataTime = 10 * time.Second
)

var abstractSocket = regexp.MustCompile(`^@([a-zA-Z0-9_-]+\.)*[a-zA-Z0-9_-]+$`)

func (o *accessOptions) validateSigner() error {
	if o.signingEndpoint == "" {
		return nil
	}
	var errs []error
	if o.signingKeyFile != "" || len(o.authentication.ServiceAccounts.KeyFiles) > 0 {
		errs = append(errs, errors.New("can't set `--service-account-signing-key-file` and/or `--service-account-key-file` with `--service-account-signing-endpoint` (They are mutually exclusive)"))
	}
	if strings.HasPrefix(o.signingEndpoint, "@") && !abstractSocket.MatchString(o.signingEndpoint) {
		errs = append(errs, fmt.Errorf("invalid value %q passed for `--service-account-signing-endpoint`, when prefixed with @ must be a valid abstract socket name", o.signingEndpoint))
	}
	return errors.Join(errs...)
}

// startSigner connects to the signer of service-account tokens, if there is one, until stop is called.
func (o *accessOptions) startSigner(ctx context.Context, cfg *controlplane.Config) (stop func(), err error) {
	if o.signingEndpoint == "" {
		return func() {}, nil
	}
	if !utilfeature.DefaultFeatureGate.Enabled(features.ExternalServiceAccountTokenSigner) {
		return nil, errors.New("setting `--service-account-signing-endpoint` requires enabling ExternalServiceAccountTokenSigner feature gate")
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx)) // requests that drain need it
	started := context.AfterFunc(ctx, stop)
	defer started()
	signer, keys, err := plugin.New(running, cfg.Issuer, o.signingEndpoint, signerKeysTime, false)
	if err != nil {
		stop()
		return nil, fmt.Errorf("--service-account-signing-endpoint: %w", err)
	}
	asking, cancel := context.WithTimeout(running, signerMetadataTime)
	defer cancel()
	metadata, err := signer.GetServiceMetadata(asking)
	if err == nil && metadata.MaxTokenExpirationSeconds < validation.MinTokenAgeSec {
		err = fmt.Errorf("max token life supported by external-jwt-signer (%ds) is less than acceptable (min %ds)", metadata.MaxTokenExpirationSeconds, validation.MinTokenAgeSec)
	}
	if err != nil {
		stop()
		return nil, fmt.Errorf("--service-account-signing-endpoint: %w", err)
	}
	longest := time.Duration(metadata.MaxTokenExpirationSeconds) * time.Second
	if cfg.TokenLifetime > longest {
		stop()
		return nil, fmt.Errorf("service-account-max-token-expiration cannot be set longer than the token expiration supported by service-account-signing-endpoint: %s > %s", cfg.TokenLifetime, longest)
	}
	cfg.Access.ServiceAccounts.Signer = &controlplane.ExternalSigner{Tokens: signer, Keys: keys, MaxLifetime: longest}
	return stop, nil
}
