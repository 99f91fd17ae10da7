package main

import (
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/spf13/pflag"
	genericoptions "k8s.io/apiserver/pkg/server/options"
	cliflag "k8s.io/component-base/cli/flag"

	"github.com/rowlock-io/rowlock/server"
)

// tlsOptions are the flags about certificates and ciphers of the server. They are upstream's own.
type tlsOptions struct {
	serving *genericoptions.SecureServingOptions
}

func (o *tlsOptions) addFlags(fs *pflag.FlagSet) {
	o.serving = genericoptions.NewSecureServingOptions()
	all := pflag.NewFlagSet("", pflag.ContinueOnError)
	o.serving.AddFlags(all)
	for _, name := range []string{"tls-cert-file", "tls-private-key-file", "tls-sni-cert-key", "tls-min-version", "tls-cipher-suites", "tls-curve-preferences"} {
		fs.AddFlag(all.Lookup(name))
	}
	fs.Lookup("tls-cert-file").Usage = "file of the certificate to show in place of the cluster's own, followed by its authorities' if any; read again when it changes"
	fs.Lookup("tls-private-key-file").Usage = "file of the private key of --tls-cert-file; read again when it changes"
}

// custom tells whether certificates of the operator are shown.
func (o *tlsOptions) custom() bool {
	return o.serving.ServerCert.CertKey.CertFile != "" || len(o.serving.SNICertKeys) > 0
}

// tls puts the flags into what a server takes, and reports all that is wrong with them.
func (o *tlsOptions) tls() (server.TLS, error) {
	files := o.serving.ServerCert.CertKey
	made := server.TLS{CertFile: files.CertFile, KeyFile: files.KeyFile}
	errs := []error{made.Validate()}
	var err error
	if made.MinVersion, err = cliflag.TLSVersion(o.serving.MinTLSVersion); err != nil {
		errs = append(errs, fmt.Errorf("--tls-min-version: %w", err))
	} else if made.MinVersion < tls.VersionTLS12 {
		errs = append(errs, fmt.Errorf("--tls-min-version %s must be VersionTLS12 or later", o.serving.MinTLSVersion))
	}
	if made.CipherSuites, err = suites(o.serving.CipherSuites); err != nil {
		errs = append(errs, fmt.Errorf("--tls-cipher-suites: %w", err))
	}
	if len(o.serving.CurvePreferences) > 0 {
		if made.Curves, err = cliflag.TLSCurvePreferences(o.serving.CurvePreferences); err != nil {
			errs = append(errs, fmt.Errorf("--tls-curve-preferences: %w", err))
		}
	}
	for _, n := range o.serving.SNICertKeys {
		made.Named = append(made.Named, server.NamedCertificate{CertFile: n.CertFile, KeyFile: n.KeyFile, Names: n.Names})
	}
	return made, errors.Join(errs...)
}

func suites(names []string) ([]uint16, error) {
	if len(names) == 0 {
		return nil, nil
	}
	return cliflag.TLSCipherSuites(names)
}
