// Package serve is a node's own API, on port 10250: logs of containers, commands in them, connections to them, what runs on the
// node and what it uses. Paths, words and rights are the kubelet's.
//
// Every request is authenticated, by a certificate of the cluster's authority or a token that the API server knows, and authorized
// by the API server, whose answers are kept for a while. Streams (exec, attach, portForward) go on to the runtime's own streaming
// server; nothing of them is looked at.
package serve

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/server/flagz"
	"k8s.io/apiserver/pkg/server/healthz"
	authenticationclient "k8s.io/client-go/kubernetes/typed/authentication/v1"
	authorizationclient "k8s.io/client-go/kubernetes/typed/authorization/v1"
	internalapi "k8s.io/cri-api/pkg/apis"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// Pods are the node's pods as the agent knows them, static ones included. Nothing of what they return is written to.
type Pods interface {
	// Pod has the newest status, also where it was not reported yet; nil: there is none of this name.
	Pod(namespace, name string) *corev1.Pod
	Pods() []*corev1.Pod
}

// Stats are figures of the node and its pods.
type Stats interface {
	Summary(context.Context) (*statsapi.Summary, error)
	// CPUAndMemory has no more than these.
	CPUAndMemory(context.Context) (*statsapi.Summary, error)
}

// Config says what is served, and to whom.
type Config struct {
	Node string
	// Certificate is what the node shows; asked with every connection, so that it can be rotated.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// ClientCAs are the authorities whose client certificates are believed; asked with every request.
	ClientCAs     func() *x509.CertPool
	Tokens        authenticationclient.TokenReviewsGetter
	SubjectAccess authorizationclient.SubjectAccessReviewsGetter

	Pods    Pods
	Runtime internalapi.RuntimeService
	Stats   Stats
	// Healthz are checks beside those that are always there.
	Healthz []healthz.HealthChecker
	// Configz is the node's configuration, in the kubelet's form; nil: it is not shown.
	Configz func() any
	// Flags are shown at /flagz; nil: nobody sees them.
	Flags flagz.Reader
	// SetVerbosity changes how much the process logs; nil: it cannot be changed.
	SetVerbosity func(level int) error
	// Object is the node's as it was last written, nil before that; the whole nil: it is not known.
	Object func() *corev1.Node
	// PodCgroup is the cgroup of the pod with a UID, "" where it is not known; nil: of none is it.
	PodCgroup func(uid string) string
	// Requests is put before all else, to count what is asked; nil: nothing is.
	Requests func(http.Handler) http.Handler
	Metrics  prometheus.Gatherer
	Probes   prometheus.Gatherer // nil: none
	// SystemLogs is the directory of the machine's logs; "": they are not shown.
	SystemLogs string
	// Checkpoints is the directory that checkpoints of containers are written to; "": none are made.
	Checkpoints string
	Log         *slog.Logger
}
