package filters

import (
	"fmt"
	"net/http"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
)

// asServer names the server itself as the user of a request.
func asServer(handler http.Handler) http.Handler {
	server := &user.DefaultInfo{Name: user.APIServerUser, Groups: []string{user.SystemPrivilegedGroup}}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		handler.ServeHTTP(w, req.WithContext(request.WithUser(req.Context(), server)))
	})
}

// forUs believes an authenticator if what it has seen is meant for this server. The audiences themselves are among the facts
// of a request.
func forUs(cfg Config) authenticator.Request {
	if len(cfg.Audiences) == 0 {
		return cfg.Authenticator
	}
	return authenticator.RequestFunc(func(req *http.Request) (*authenticator.Response, bool, error) {
		resp, ok, err := cfg.Authenticator.AuthenticateRequest(req)
		if err != nil || !ok || len(resp.Audiences) == 0 {
			return resp, ok, err
		}
		for _, a := range resp.Audiences {
			if cfg.Audiences.Has(a) {
				return resp, true, nil
			}
		}
		return resp, false, fmt.Errorf("unable to match the audience: %v , accepted: %v", resp.Audiences, cfg.Audiences)
	})
}
