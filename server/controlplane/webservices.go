package controlplane

import (
	"context"
	"net/http"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/handlers/negotiation"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/kube-aggregator/pkg/apis/apiregistration"
	"k8s.io/kubernetes/pkg/api/legacyscheme"

	"github.com/rowlock-io/rowlock/server/aggregation"
	"github.com/rowlock-io/rowlock/server/discovery"
	"github.com/rowlock-io/rowlock/server/resources"
	"github.com/rowlock-io/rowlock/server/restful"
)

// webServices answers below /api and /apis: documents at group and version, resources below.
type webServices struct {
	documents *discovery.Documents
	resources http.Handler // of built-in groups
	builtin   func(schema.GroupVersion) bool
	// Within these, what is not there is told in Kubernetes' own form, and in plain text elsewhere.
	builtinGroup func(string) bool
	custom       http.Handler // of all others
	media        []string     // of documents

	aggregator *aggregation.Aggregator
	figures    func(req *http.Request, group, rest string) http.Handler
	serving    context.Context
}

func newWebServices(c *ControlPlane, api *resources.Handler, documents *discovery.Documents) (legacy, named http.Handler) {
	media, _ := negotiation.MediaTypesForSerializer(legacyscheme.Codecs)
	s := &webServices{
		documents: documents, resources: c.afterLoad(api), builtin: c.catalogue.Serves,
		builtinGroup: c.catalogue.ServesGroup,
		custom:       c.afterLoad(c.custom), media: media, aggregator: c.remotes, serving: c.serving, figures: c.figuresAt,
	}
	c.unserved = s.unserved
	return http.HandlerFunc(s.serveLegacy), http.HandlerFunc(s.serveNamed)
}

func (s *webServices) serveLegacy(w http.ResponseWriter, req *http.Request) {
	if h := s.aggregator.Find("", "v1"); h != nil {
		s.proxied(h, w, req)
		return
	}
	rest := strings.TrimPrefix(req.URL.Path, "/api")
	if strings.Trim(rest, "/") == "" {
		document(s.media, s.documents.LegacyRoot()).ServeHTTP(w, req)
		return
	}
	s.serveVersion(w, req, "", rest[len("/"):])
}

func (s *webServices) serveNamed(w http.ResponseWriter, req *http.Request) {
	group, rest := groupOf(req.URL.Path)
	if h := s.aggregator.Find(group, rest); h != nil {
		s.proxied(h, w, req)
		return
	}
	figures := s.figures(req, group, rest)
	described := s.documents.Group(group)
	switch {
	case figures != nil:
		figures.ServeHTTP(w, req)
	case group == "" || described == nil && strings.Trim(rest, "/") == "":
		s.unserved(w, req)
	case strings.Trim(rest, "/") == "":
		if group == apiregistration.GroupName { // the one group that kube-apiserver does not describe by its APIServices
			described = document(s.media, described)
		}
		described.ServeHTTP(w, req)
	default:
		s.serveVersion(w, req, group, rest)
	}
}

// groupOf splits a path into its group and what follows.
func groupOf(path string) (group, rest string) {
	group, rest, _ = strings.Cut(strings.TrimPrefix(path, "/apis/"), "/")
	return group, rest
}

// serveVersion answers /<version> and below.
func (s *webServices) serveVersion(w http.ResponseWriter, req *http.Request, group, path string) {
	version, below, _ := strings.Cut(path, "/")
	gv := schema.GroupVersion{Group: group, Version: version}
	described := s.documents.Version(gv)
	switch {
	case group != "" && strings.Trim(below, "/") != "" && !s.builtin(gv):
		s.custom.ServeHTTP(w, req)
	case described == nil && group != "" && !s.builtinGroup(group):
		s.unserved(w, req)
	case described == nil:
		refuse(w, req, restful.Error(http.StatusNotFound, ""))
	case strings.Trim(below, "/") == "":
		document(s.media, described).ServeHTTP(w, req)
	default:
		s.resources.ServeHTTP(w, req)
	}
}

// document guards what is only read, and only in the media types given.
func document(media []string, handler http.Handler) http.Handler {
	r := restful.Route{Methods: []string{http.MethodGet}, Consumes: media, Produces: media}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if err := r.Check(req); err != nil {
			refuse(w, req, err)
			return
		}
		handler.ServeHTTP(w, req)
	})
}

func refuse(w http.ResponseWriter, req *http.Request, err error) {
	responsewriters.ErrorNegotiated(err, legacyscheme.Codecs, schema.GroupVersion{Version: "v1"}, w, req)
}
