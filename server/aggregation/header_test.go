package aggregation

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestScrub(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ header, want http.Header }{
		"identity": {
			http.Header{"X-Remote-User": {"a"}, "x_remote-uid": {"a"}, "X_REMOTE_GROUP": {"a"}, " X-Remote-Extra-A%2fb ": {"a"}, "Impersonate-User": {"a"}, "Accept": {"a"}},
			http.Header{"Accept": {"a"}},
		},
		"connection": {
			http.Header{"Connection": {"X-Remote-User, keep-alive"}, "Proxy-Connection": {"x"}, "Keep-Alive": {"x"}, "Proxy-Authorization": {"x"}, "Upgrade": {"h2c"}},
			http.Header{},
		},
		"upgrade": {
			http.Header{"Connection": {"Upgrade, X-Remote-User", "X-Remote-Group"}, "Upgrade": {"websocket"}},
			http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}},
		},
	} {
		scrub(tc.header)
		if diff := cmp.Diff(tc.want, tc.header); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestLeaves(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]bool{
		"/apis/g/v1": false, "/apis/g/v1/": false, "/apis/g/v1/a..b/.c/d.": false, "/apis/g/v1/...": false, "/apis/g/v1//x": false,
		"/apis/g/v1/..": true, "/apis/g/v1/../x": true, "/apis/./g": true, `/apis/g/v1/..\x`: true, "/apis/g/v1/a\x00b": true,
	} {
		if got := leaves(path); got != want {
			t.Errorf("%q: %v", path, got)
		}
	}
}
