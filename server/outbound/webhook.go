package outbound

import (
	"context"
	"net"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/util/webhook"
	"k8s.io/client-go/rest"
)

// maxWebhookAnswer bounds what a webhook may answer: more than any review of objects of the size that the API takes, patches
// and escapes included.
const maxWebhookAnswer = 32 << 20

// maxWebhookAnswers bounds what the webhooks of a cluster answer at a time, beside the first of each: its seats times the
// largest answer would be more than a process has.
const (
	maxWebhookAnswers = 128 << 20
	smallAnswer       = 1 << 20
)

// ServiceDial connects to an address that a Service was resolved to.
type ServiceDial func(ctx context.Context, namespace, service, network, address string) (net.Conn, error)

// Webhooks makes upstream's webhook clients dial with d, and with services, unless it is nil, those of webhooks that are behind a
// Service. self is the configuration for calls of the cluster's own API, by the Service kubernetes.default, made anew for each use; nil:
// they go where the Service says.
//
// It suits admission and conversion webhooks, which users register. Those that the operator names in files are trusted.
func (d *Dialer) Webhooks(self func() (*rest.Config, error), services ServiceDial) webhook.AuthenticationInfoResolverWrapper {
	return func(delegate webhook.AuthenticationInfoResolver) webhook.AuthenticationInfoResolver {
		guarded := func(cfg *rest.Config, err error) (*rest.Config, error) {
			if err != nil {
				return nil, err
			}
			cfg = rest.CopyConfig(cfg)
			d.Guard(cfg)
			return cfg, nil
		}
		own := func() (*rest.Config, error) {
			cfg, err := self()
			if err != nil {
				return nil, err
			}
			d.bound(cfg)
			return cfg, nil
		}
		return &webhook.AuthenticationInfoResolverDelegator{
			ClientConfigForFunc: func(hostPort string) (*rest.Config, error) {
				if self != nil && hostPort == "kubernetes.default.svc:443" {
					return own()
				}
				return guarded(delegate.ClientConfigFor(hostPort))
			},
			ClientConfigForServiceFunc: func(name, namespace string, port int) (*rest.Config, error) {
				if self != nil && name == "kubernetes" && namespace == corev1.NamespaceDefault && port == 443 {
					return own()
				}
				cfg, err := guarded(delegate.ClientConfigForService(name, namespace, port))
				if err == nil && services != nil {
					cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
						return services(ctx, namespace, name, network, address)
					}
				}
				return cfg, err
			},
		}
	}
}

// Guard makes the clients of a configuration dial with d, without proxies, redirects and endless answers.
func (d *Dialer) Guard(cfg *rest.Config) {
	cfg.Dial = d.DialContext
	cfg.Proxy = noProxy // and so the transport is not shared with others of the same TLS configuration
	d.bound(cfg)
}

func (d *Dialer) bound(cfg *rest.Config) {
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return bounded{next: NoRedirects(next), bytes: maxWebhookAnswer, budget: &d.answers}
	})
}
