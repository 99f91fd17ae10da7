package openapi

import (
	"encoding/json"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"k8s.io/kube-openapi/pkg/handler3"
)

const v3Root = "/openapi/v3"

// ServeV3Index answers GET /openapi/v3: where the document of each path is, with the hash of its content, which makes
// the first request build them all. A document that cannot be built is left out.
func (s *Service) ServeV3Index(w http.ResponseWriter, r *http.Request) {
	defer s.settle(s.building.done.Load())
	docs, release := s.v3Documents()
	defer release()
	index := handler3.OpenAPIV3Discovery{Paths: make(map[string]handler3.OpenAPIV3DiscoveryGroupVersion, len(docs))}
	for name, d := range docs {
		u := d.url
		switch {
		case d.handler != nil:
		case d.hash != "":
			u = hashURL(name, d.hash)
		default:
			b, err := d.jsonBlob(time.Time{}, &s.building)
			if err != nil {
				s.log.Error("Could not build an OpenAPI v3 document", "path", name, "error", err)
				continue
			}
			u = hashURL(name, b.etag)
		}
		index.Paths[name] = handler3.OpenAPIV3DiscoveryGroupVersion{ServerRelativeURL: u}
	}
	data, err := json.Marshal(index)
	if err != nil {
		s.log.Error("Could not encode the OpenAPI v3 index", "error", err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Etag", strconv.Quote(etag(data)))
	serveBytes(w, r, data)
}

// ServeV3 answers GET /openapi/v3/<path>. With the right hash in the query the answer may be cached for ever, a wrong
// one leads to the right one.
func (s *Service) ServeV3(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, v3Root+"/")
	d := s.v3Document(name)
	switch {
	case d == nil:
		w.WriteHeader(http.StatusNotFound)
		return
	case d.handler != nil:
		d.handler.ServeHTTP(w, r)
		return
	}
	defer s.settle(s.building.done.Load())
	enc, ok := negotiate(r, mediaV3())
	w.Header().Add("Vary", "Accept")
	if !ok {
		w.WriteHeader(http.StatusNotAcceptable)
		return
	}
	b, err := d.encoded(time.Time{}, enc, &s.building)
	if err != nil {
		s.log.Error("Could not build an OpenAPI v3 document", "path", name, "error", err)
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if hash := r.URL.Query().Get("hash"); hash != "" {
		if hash != b.etag {
			w.Header().Set("Etag", strconv.Quote(b.etag))
			http.Redirect(w, r, hashURL(name, b.etag), http.StatusMovedPermanently)
			return
		}
		w.Header().Set("Cache-Control", "public, immutable")
		w.Header().Set("Expires", time.Now().AddDate(1, 0, 0).Format(time.RFC1123))
	}
	b.serve(w, r, enc.answer)
}

func hashURL(name, hash string) string {
	return (&url.URL{Path: path.Join(v3Root, name), RawQuery: url.Values{"hash": {hash}}.Encode()}).String()
}

// v3Document finds the document of a path in the source that wins; nil when no source has it.
func (s *Service) v3Document(name string) *document {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, src := range s.ordered() {
		if d := src.v3[name]; d != nil {
			return d
		}
	}
	return nil
}

// v3Documents lists all documents. Until release is called they are built from shared definitions.
func (s *Service) v3Documents() (docs map[string]*document, release func()) {
	s.mu.Lock()
	sources := s.ordered()
	s.mu.Unlock()
	docs = map[string]*document{}
	var keep []func() (release func())
	for _, src := range sources {
		missing := false
		for name, d := range src.v3 {
			if docs[name] == nil {
				docs[name] = d
				missing = missing || (d.handler == nil && d.hash == "" && d.asJSON.Load() == nil)
			}
		}
		if missing && src.keep != nil {
			keep = append(keep, src.keep)
		}
	}
	var releases []func()
	for _, k := range keep {
		releases = append(releases, k())
	}
	return docs, func() {
		for _, f := range releases {
			f()
		}
	}
}
