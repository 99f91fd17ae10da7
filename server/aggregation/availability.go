package aggregation

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/transport"
	apiregistration "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-aggregator/pkg/apis/apiregistration/v1/helper"

	"github.com/rowlock-io/rowlock/server/outbound"
)

const (
	// checkInterval is how often a server that answers is asked again; kube-aggregator's.
	checkInterval = 30 * time.Second
	// learnInterval is how often it is asked what it serves.
	learnInterval = time.Minute
	probeTimeout  = 5 * time.Second
	probes        = 5 // of which one has to succeed: each may end at another endpoint
)

// run keeps the condition of an APIService and what its server says, until ctx ends.
func (b *backend) run(ctx context.Context) {
	var followers sync.WaitGroup
	defer followers.Wait()
	defer b.letGo()
	namespace, service := b.spec.Service.Namespace, b.spec.Service.Name
	followers.Go(func() {
		b.follow(ctx, func(ctx context.Context) (watch.Interface, error) {
			return b.a.cfg.Kube.CoreV1().Services(namespace).Watch(ctx, metav1.ListOptions{
				FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, service).String(),
			})
		})
	})
	followers.Go(func() {
		b.follow(ctx, func(ctx context.Context) (watch.Interface, error) {
			return b.a.cfg.Kube.DiscoveryV1().EndpointSlices(namespace).Watch(ctx, metav1.ListOptions{
				LabelSelector: labels.Set{discoveryv1.LabelServiceName: service}.String(),
			})
		})
	})
	var learned time.Time // when the server last said what it serves
	timer := time.NewTimer(0)
	defer timer.Stop()
	wait := firstRetry
	for {
		err := b.check(ctx)
		if err == nil && time.Since(learned) >= learnInterval-time.Second {
			if err = b.learn(ctx); err == nil {
				learned = time.Now()
			}
		}
		if ctx.Err() != nil {
			return
		}
		next := checkInterval
		if err != nil {
			b.log.Debug("Server of an APIService is not well", "apiService", b.name, "err", err)
			b.stale()
			learned = time.Time{}
			next, wait = wait, min(2*wait, lastRetry)
		} else {
			wait = firstRetry
		}
		timer.Reset(next)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-b.wake:
		}
	}
}

// follow pokes the backend when what it depends on changes.
func (b *backend) follow(ctx context.Context, open func(context.Context) (watch.Interface, error)) {
	for ctx.Err() == nil {
		w, err := open(ctx)
		if err == nil {
			for range w.ResultChan() { // closed when ctx ends
				b.poke()
			}
			w.Stop()
			b.poke() // what was missed meanwhile
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// check finds out whether the server can be used and says so in the APIService's status. The error is what keeps it from
// being used.
func (b *backend) check(ctx context.Context) error {
	condition := b.reachable()
	var failed error
	if condition == nil {
		condition = &apiregistration.APIServiceCondition{Status: apiregistration.ConditionTrue, Reason: "Passed", Message: "all checks passed"}
		if failed = b.probe(ctx); failed != nil {
			condition.Status, condition.Reason, condition.Message = apiregistration.ConditionFalse, "FailedDiscoveryCheck", failed.Error()
		}
	} else {
		failed = fmt.Errorf("%s: %s", condition.Reason, condition.Message)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := b.report(ctx, *condition); err != nil {
		return err
	}
	return failed
}

// reachable tells what is wrong with the Service and its endpoints; nil when nothing is. Reasons and messages are
// kube-aggregator's.
func (b *backend) reachable() *apiregistration.APIServiceCondition {
	namespace, name := b.spec.Service.Namespace, b.spec.Service.Name
	bad := func(status apiregistration.ConditionStatus, reason, format string, args ...any) *apiregistration.APIServiceCondition {
		return &apiregistration.APIServiceCondition{Status: status, Reason: reason, Message: fmt.Sprintf(format, args...)}
	}
	if b.itself() { // kube-apiserver asks itself and gets 503
		return bad(apiregistration.ConditionFalse, "FailedDiscoveryCheck", "%v", errItself)
	}
	service, err := b.a.cfg.Services.Services(namespace).Get(name)
	switch {
	case apierrors.IsNotFound(err):
		return bad(apiregistration.ConditionFalse, "ServiceNotFound", "service/%s in %q is not present", name, namespace)
	case err != nil:
		return bad(apiregistration.ConditionUnknown, "ServiceAccessError", "service/%s in %q cannot be checked due to: %v", name, namespace, err)
	case service.Spec.Type != corev1.ServiceTypeClusterIP:
		return nil
	}
	at := slices.IndexFunc(service.Spec.Ports, func(p corev1.ServicePort) bool { return p.Port == b.port() })
	if at < 0 {
		return bad(apiregistration.ConditionFalse, "ServicePortError", "service/%s in %q is not listening on port %d", name, namespace, b.port())
	}
	portName := service.Spec.Ports[at].Name
	endpoints, err := b.a.cfg.Slices.GetEndpointSlices(namespace, name)
	switch {
	case err != nil:
		return bad(apiregistration.ConditionUnknown, "EndpointsAccessError", "service/%s in %q cannot be checked due to: %v", name, namespace, err)
	case len(endpoints) == 0:
		return bad(apiregistration.ConditionFalse, "EndpointsNotFound", "cannot find endpointslices for service/%s in %q", name, namespace)
	case !slices.ContainsFunc(endpoints, func(s *discoveryv1.EndpointSlice) bool { return offers(s, portName) }):
		return bad(apiregistration.ConditionFalse, "MissingEndpoints", "endpointslices for service/%s in %q have no addresses with port name %q", name, namespace, portName)
	}
	return nil
}

// offers tells whether a slice has a ready endpoint and the port.
func offers(s *discoveryv1.EndpointSlice, port string) bool {
	return slices.ContainsFunc(s.Endpoints, func(e discoveryv1.Endpoint) bool { return e.Conditions.Ready == nil || *e.Conditions.Ready }) &&
		slices.ContainsFunc(s.Ports, func(p discoveryv1.EndpointPort) bool { return p.Name != nil && *p.Name == port && p.Port != nil })
}

// probe asks for a document that every server of the version has: once and, when that fails, at once a few times more.
func (b *backend) probe(ctx context.Context) error {
	err := b.probeOnce(ctx)
	if err == nil || ctx.Err() != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan error, probes-1)
	var wg sync.WaitGroup
	defer wg.Wait()
	for range probes - 1 {
		wg.Go(func() { results <- b.probeOnce(ctx) })
	}
	for range probes - 1 {
		if err = <-results; err == nil {
			cancel()
			return nil
		}
	}
	return err
}

func (b *backend) probeOnce(ctx context.Context) error {
	path := "/apis/" + b.spec.Group + "/" + b.spec.Version
	if b.spec.Group == "" {
		path = "/api/" + b.spec.Version
	}
	resp, err := b.ask(ctx, path, "", "")
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode < http.StatusOK || resp.StatusCode >= http.StatusMultipleChoices {
		u := resp.Request.URL
		return fmt.Errorf("failing or missing response from %v: bad status from %v: %d", u, u, resp.StatusCode)
	}
	return nil
}

// maxAnswer bounds the documents that are read into memory: the OpenAPI document of all of Kubernetes has 4 MB.
const maxAnswer = 32 << 20

// ask gets a document from the server, as the aggregator, who may read everything. The body is to be closed.
func (b *backend) ask(ctx context.Context, path, accept, etag string) (*http.Response, error) {
	rt, err := b.roundTripper()
	if err != nil {
		return nil, err
	}
	at, err := b.locate()
	if err != nil {
		return nil, err
	}
	at.Path = path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, err
	}
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	if etag != "" {
		req.Header.Set("If-None-Match", etag)
	}
	transport.SetAuthProxyHeaders(req, "system:kube-aggregator", "", []string{"system:masters"}, nil)
	client := &http.Client{Transport: outbound.Bounded(outbound.NoRedirects(rt), maxAnswer), Timeout: probeTimeout}
	resp, err := client.Do(req)
	if err != nil {
		rt.CloseIdleConnections()
		return nil, fmt.Errorf("failing or missing response from %v: %w", at, err)
	}
	return resp, nil
}

// report writes the condition if it has changed.
func (b *backend) report(ctx context.Context, condition apiregistration.APIServiceCondition) error {
	have, err := b.a.services.Get(b.name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil || have.UID != b.uid {
		return err
	}
	condition.Type, condition.LastTransitionTime = apiregistration.Available, metav1.Now()
	want := have.DeepCopy()
	helper.SetAPIServiceCondition(want, condition)
	b.a.cfg.Metrics.gauge(want)
	if equality.Semantic.DeepEqual(have.Status, want.Status) {
		return nil
	}
	if _, err := b.a.cfg.Client.ApiregistrationV1().APIServices().UpdateStatus(ctx, want, metav1.UpdateOptions{}); err != nil {
		if apierrors.IsNotFound(err) {
			return nil
		}
		if apierrors.IsConflict(err) {
			b.poke() // another replica was first, or the user
			return nil
		}
		return fmt.Errorf("status of APIService %s: %w", b.name, err)
	}
	b.a.cfg.Metrics.count(have, want)
	return nil
}
