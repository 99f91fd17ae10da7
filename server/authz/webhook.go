package authz

import (
	"fmt"

	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	authorizationcel "k8s.io/apiserver/pkg/authorization/cel"
	"k8s.io/apiserver/pkg/server/options"
	webhookutil "k8s.io/apiserver/pkg/util/webhook"
	"k8s.io/apiserver/plugin/pkg/authorizer/webhook"
	webhookmetrics "k8s.io/apiserver/plugin/pkg/authorizer/webhook/metrics"
)

// observed are the series that kube-apiserver has of its webhooks: what they decide and match, not each request.
type observed struct {
	webhookmetrics.NoopRequestMetrics
	webhookmetrics.WebhookMetrics
	authorizationcel.MatcherMetrics
}

// newWebhook asks the server that a configuration names. The operator names it, so it may be anywhere.
func newWebhook(c apiserver.AuthorizerConfiguration, compiler authorizationcel.Compiler) (Part, error) {
	hook := c.Webhook
	if hook.ConnectionInfo.KubeConfigFile == nil {
		return nil, fmt.Errorf("connection type %q is not available", hook.ConnectionInfo.Type)
	}
	client, err := webhookutil.LoadKubeconfig(*hook.ConnectionInfo.KubeConfigFile, nil)
	if err != nil {
		return nil, err
	}
	if hook.Timeout.Duration != 0 {
		client.Timeout = hook.Timeout.Duration
	}
	var onError authorizer.Decision
	switch hook.FailurePolicy {
	case apiserver.FailurePolicyNoOpinion:
		onError = authorizer.DecisionNoOpinion
	case apiserver.FailurePolicyDeny:
		onError = authorizer.DecisionDeny
	default:
		return nil, fmt.Errorf("unknown failurePolicy %q", hook.FailurePolicy)
	}
	allowed, denied := hook.AuthorizedTTL.Duration, hook.UnauthorizedTTL.Duration
	if !hook.CacheAuthorizedRequests {
		allowed = 0
	}
	if !hook.CacheUnauthorizedRequests {
		denied = 0
	}
	return webhook.New(client, hook.SubjectAccessReviewVersion, allowed, denied, *options.DefaultAuthWebhookRetryBackoff(), onError,
		hook.MatchConditions, c.Name,
		observed{WebhookMetrics: webhookmetrics.NewWebhookMetrics(), MatcherMetrics: authorizationcel.NewMatcherMetrics()}, compiler)
}
