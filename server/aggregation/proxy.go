package aggregation

import (
	"net/http"
	"net/url"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/proxy"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	endpointmetrics "k8s.io/apiserver/pkg/endpoints/metrics"
	"k8s.io/apiserver/pkg/endpoints/request"
	utilflowcontrol "k8s.io/apiserver/pkg/util/flowcontrol"
	proxyutil "k8s.io/apiserver/pkg/util/proxy"
	"k8s.io/client-go/transport"
	"k8s.io/streaming/pkg/httpstream"
)

// component names this part in metrics, as kube-aggregator does.
const component = "aggregator"

// refuse answers for the server behind. The words are kube-aggregator's, plain ones.
func refuse(w http.ResponseWriter, req *http.Request, message string, code int) {
	http.Error(w, message, code)
	if info, ok := request.RequestInfoFrom(req.Context()); ok {
		endpointmetrics.RecordRequestTermination(req, info, component, code)
	}
}

// ServeHTTP sends a request on. It has been authorized, and its context knows the user.
func (b *backend) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if leaves(req.URL.Path) {
		refuse(w, req, "the path must not contain . or .. as a segment, nor a backslash", http.StatusBadRequest)
		return
	}
	if !b.available.Load() {
		refuse(w, req, "service unavailable", http.StatusServiceUnavailable)
		return
	}
	user, ok := request.UserFrom(req.Context())
	if !ok {
		refuse(w, req, "missing user", http.StatusInternalServerError)
		return
	}
	rt, err := b.roundTripper()
	if err != nil {
		refuse(w, req, err.Error(), http.StatusInternalServerError)
		return
	}
	at, err := b.locate()
	if err != nil {
		b.log.Debug("Service of an APIService could not be resolved", "apiService", b.name, "err", err)
		refuse(w, req, "service unavailable", http.StatusServiceUnavailable)
		return
	}
	location := &url.URL{Scheme: "https", Host: at.Host, Path: req.URL.Path, RawQuery: req.URL.Query().Encode()}
	sent, cancel := proxyutil.NewRequestForProxy(location, req)
	defer cancel()
	scrub(sent.Header)
	// An upgrade is written to a connection of its own and passes no round tripper: it needs its headers now.
	transport.SetAuthProxyHeaders(sent, user.GetName(), user.GetUID(), user.GetGroups(), user.GetExtra())
	handler := proxy.NewUpgradeAwareHandler(location, rt, true, httpstream.IsUpgradeRequest(sent), &responder{w})
	handler.RejectForwardingRedirects = true
	utilflowcontrol.RequestDelegated(req.Context())
	handler.ServeHTTP(w, sent)
}

// responder says what went wrong between here and the server behind.
type responder struct{ w http.ResponseWriter }

func (r *responder) Object(code int, obj runtime.Object) {
	responsewriters.WriteRawJSON(code, obj, r.w)
}

func (r *responder) Error(_ http.ResponseWriter, _ *http.Request, err error) {
	http.Error(r.w, err.Error(), http.StatusServiceUnavailable)
}
