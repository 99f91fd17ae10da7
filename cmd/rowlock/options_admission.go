package main

import (
	"github.com/spf13/pflag"
	"k8s.io/kubernetes/pkg/capabilities"

	"github.com/rowlock-io/rowlock/admission"
)

// admissionOptions say what may be written.
type admissionOptions struct {
	admission.Options
	AllowPrivileged bool
}

func (o *admissionOptions) addFlags(fs *pflag.FlagSet) {
	o.AddFlags(fs)
	fs.BoolVar(&o.AllowPrivileged, "allow-privileged", true, "let containers be privileged where Pod Security and other admission let them")
}

// setup tells upstream's validation, which asks the process and not the cluster.
func (o *admissionOptions) setup() { capabilities.Setup(o.AllowPrivileged, 0) }
