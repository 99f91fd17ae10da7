package filters

import (
	"net/http"

	"k8s.io/apiserver/pkg/endpoints/request"
)

// withLatency keeps the time apart that a request waits for webhooks and seats: apiserver_request_sli_duration_seconds is
// the time without it. Watches have none.
func withLatency(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		ctx := req.Context()
		if info, ok := request.RequestInfoFrom(ctx); ok && info.IsResourceRequest && info.Verb != "watch" {
			req = req.WithContext(request.WithLatencyTrackers(ctx))
		}
		handler.ServeHTTP(w, req)
	})
}
