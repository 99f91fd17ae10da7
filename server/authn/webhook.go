package authn

import (
	"fmt"
	"time"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/token/cache"
	"k8s.io/apiserver/pkg/server/options"
	webhookutil "k8s.io/apiserver/pkg/util/webhook"
	"k8s.io/apiserver/plugin/pkg/authenticator/token/webhook"
)

// Webhook is a server that is asked whose a token is.
type Webhook struct {
	File    string        // kubeconfig that says where it is; empty: none is asked
	Version string        // of the TokenReviews it is sent
	TTL     time.Duration // how long its answers are remembered
}

// NewWebhook returns an authenticator that asks. The operator names the server, so it may be anywhere.
func NewWebhook(c Webhook, audiences authenticator.Audiences) (authenticator.Token, error) {
	client, err := webhookutil.LoadKubeconfig(c.File, nil)
	if err != nil {
		return nil, fmt.Errorf("token webhook: %w", err)
	}
	hook, err := webhook.New(client, c.Version, audiences, *options.DefaultAuthWebhookRetryBackoff())
	if err != nil {
		return nil, fmt.Errorf("token webhook: %w", err)
	}
	return cache.New(hook, false, c.TTL, c.TTL), nil
}
