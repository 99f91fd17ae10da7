package openapi

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"testing"

	openapi_v2 "github.com/google/gnostic-models/openapiv2"
	openapi_v3 "github.com/google/gnostic-models/openapiv3"
	"google.golang.org/protobuf/proto"
)

func TestServe(t *testing.T) {
	t.Parallel()
	s := newSmallService(t, Config{})
	const version = "/openapi/v3/version"
	tag := serve(s, version).Header().Get("Etag")
	hash := strings.Trim(tag, `"`)
	for _, tt := range []struct {
		name   string
		target string
		header []string
		code   int
		want   map[string]string // answered headers
	}{
		{"v3", version, nil, 200, map[string]string{"Content-Type": "application/json", "Vary": "Accept, Accept-Encoding", "Cache-Control": ""}},
		{"right hash", version + "?hash=" + hash, nil, 200, map[string]string{"Cache-Control": "public, immutable", "Etag": tag}},
		{"wrong hash", version + "?hash=00", nil, 301, map[string]string{"Location": version + "?hash=" + hash}},
		{"known", version, []string{"If-None-Match", tag}, 304, map[string]string{"Etag": tag}},
		{"known index", "/openapi/v3", []string{"If-None-Match", "*"}, 304, nil},
		{"unknown path", "/openapi/v3/apis/none/v1", nil, 404, nil},
		{"no path", "/openapi/v3/", nil, 404, nil},
		{"not acceptable", version, []string{"Accept", "text/html"}, 406, nil},
		{"v2 not acceptable", "/openapi/v2", []string{"Accept", "application/yaml"}, 406, nil},
		{"first acceptable", version, []string{"Accept", "text/html, application/json;q=0.5"}, 200, map[string]string{"Content-Type": "application/json"}},
		{
			"protobuf", version,
			[]string{"Accept", "application/com.github.proto-openapi.spec.v3@v1.0+protobuf"},
			200,
			map[string]string{"Content-Type": "application/com.github.proto-openapi.spec.v3.v1.0+protobuf", "Etag": tag},
		},
		{"anything", "/openapi/v2", []string{"Accept", "*/*"}, 200, map[string]string{"Content-Type": "application/json"}},
		{"gzip", version, []string{"Accept-Encoding", "br, gzip;q=0.8"}, 200, map[string]string{"Content-Encoding": "gzip", "Etag": tag}},
		{"gzip refused", version, []string{"Accept-Encoding", "gzip;q=0"}, 200, map[string]string{"Content-Encoding": ""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := serve(s, tt.target, tt.header...)
			if w.Code != tt.code {
				t.Errorf("code %d, want %d", w.Code, tt.code)
			}
			for name, want := range tt.want {
				if got := strings.Join(w.Header().Values(name), ", "); got != want {
					t.Errorf("header %s: %q, want %q", name, got, want)
				}
			}
		})
	}
}

func TestGzipIsTheSameDocument(t *testing.T) {
	t.Parallel()
	s := newSmallService(t, Config{})
	for _, target := range []string{"/openapi/v2", "/openapi/v3/apis/batch/v1"} {
		plain := serve(s, target).Body.Bytes()
		z, err := gzip.NewReader(serve(s, target, "Accept-Encoding", "gzip").Body)
		if err != nil {
			t.Fatal(err)
		}
		unzipped, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(plain, unzipped) || len(plain) == 0 {
			t.Errorf("GET %s: %d bytes plain, %d bytes unzipped, want the same document", target, len(plain), len(unzipped))
		}
	}
}

func TestProtobuf(t *testing.T) {
	t.Parallel()
	s := newService(t, Config{})
	var v2 openapi_v2.Document
	body := serve(s, "/openapi/v2", "Accept", "application/com.github.proto-openapi.spec.v2.v1.0+protobuf").Body.Bytes()
	if err := proto.Unmarshal(body, &v2); err != nil {
		t.Fatal(err)
	}
	if n := len(v2.GetPaths().GetPath()); n != 408 {
		t.Errorf("v2 has %d paths, kube-apiserver has 408", n)
	}
	var v3 openapi_v3.Document
	body = serve(s, "/openapi/v3/apis/apps/v1", "Accept", "application/com.github.proto-openapi.spec.v3.v1.0+protobuf").Body.Bytes()
	if err := proto.Unmarshal(body, &v3); err != nil {
		t.Fatal(err)
	}
	if v3.GetInfo().GetTitle() != "Kubernetes" || len(v3.GetPaths().GetPath()) == 0 {
		t.Errorf("v3 document: title %q, %d paths", v3.GetInfo().GetTitle(), len(v3.GetPaths().GetPath()))
	}
}

func TestHead(t *testing.T) {
	t.Parallel()
	s := newSmallService(t, Config{})
	r, err := http.NewRequest(http.MethodHead, "/openapi/v3/version", nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &recorder{header: http.Header{}}
	s.ServeV3(w, r)
	if w.body.Len() != 0 || w.header.Get("Etag") == "" || w.header.Get("Content-Length") == "" {
		t.Errorf("HEAD answered %d bytes, headers %v", w.body.Len(), w.header)
	}
}
