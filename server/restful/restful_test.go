package restful_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/rowlock-io/rowlock/server/restful"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	route := restful.Route{
		Methods: []string{"GET", "PATCH"}, Consumes: []string{"application/json", "application/yaml"},
		Produces: []string{"application/json", "application/json;stream=watch"},
	}
	for _, tt := range []struct {
		name, method, contentType, accept string
		route                             restful.Route
		want                              string // of the error; empty for none
	}{
		{"nothing asked", "GET", "", "", route, ""},
		{"anything asked", "GET", "", "text/html, */*;q=0.1", route, ""},
		{"one of several", "GET", "", "text/html , application/json; q=1", route, ""},
		{"no half wildcard", "GET", "", "application/*", route, "406: Not Acceptable\n\nAvailable representations: application/json, application/json;stream=watch"},
		{"parameters do not count", "GET", "", "application/json;as=Table", route, ""},
		{"method", "POST", "application/json", "", route, "the server does not allow this method on the requested resource"},
		{"sent", "PATCH", "application/yaml; charset=utf-8", "", route, ""},
		{"sent in another type", "PATCH", "text/plain", "", route, "415: Unsupported Media Type"},
		{"anything cannot be sent", "PATCH", "*/*", "", route, "415: Unsupported Media Type"},
		{"sent without a type", "PATCH", "", "", route, "415: Unsupported Media Type"},
		{"the method is judged first", "POST", "text/plain", "text/html", route, "the server does not allow this method on the requested resource"},
		{"what is sent is judged next", "PATCH", "text/plain", "text/html", route, "415: Unsupported Media Type"},
		{"no bounds", "FOO", "text/plain", "text/html", restful.Route{}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			req := httptest.NewRequestWithContext(t.Context(), tt.method, "/", http.NoBody)
			if tt.contentType != "" {
				req.Header.Set("Content-Type", tt.contentType)
			}
			if tt.accept != "" {
				req.Header.Set("Accept", tt.accept)
			}
			err := tt.route.Check(req)
			switch {
			case err == nil && tt.want != "", err != nil && err.Error() != tt.want:
				t.Errorf("%v, want %q", err, tt.want)
			case err != nil && apierrors.ReasonForError(err) == "":
				t.Errorf("%v has no reason", err)
			}
		})
	}
}
