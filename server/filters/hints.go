package filters

import (
	"net/http"

	genericfilters "k8s.io/apiserver/pkg/server/filters"
)

// Hints are what browsers and HTTP/2 clients are told beside the answers. The zero value is nothing.
type Hints struct {
	Origins []string // patterns of the origins whose pages may use the API
	HSTS    []string // directives of Strict-Transport-Security
	Goaway  float64  // the part of requests after which a client is told to connect anew
}

// withOrigins answers preflight requests of pages from allowed origins.
func withOrigins(handler http.Handler, hints Hints) http.Handler {
	return genericfilters.WithCORS(handler, hints.Origins, nil, nil, nil, "true")
}

func withHints(handler http.Handler, hints Hints) http.Handler {
	if hints.Goaway > 0 {
		handler = genericfilters.WithProbabilisticGoaway(handler, hints.Goaway)
	}
	return genericfilters.WithHSTS(handler, hints.HSTS)
}

// neverKept is what answers say of caches: all that is served is for one user.
var neverKept = []string{"no-cache, private"}

func withCacheControl(handler http.Handler) http.Handler {
	const key = "Cache-Control"
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if header := w.Header(); header[key] == nil {
			header[key] = neverKept[:1:1]
		}
		handler.ServeHTTP(w, req)
	})
}
