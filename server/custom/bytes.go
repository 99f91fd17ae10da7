package custom

import (
	"net/http"
	"strings"
	"time"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiserver/pkg/endpoints/metrics"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/endpoints/responsewriter"

	"github.com/rowlock-io/rowlock/server/read"
)

// serveBytes answers plain reads of the stored version. When it returns false nothing was written and upstream's handler
// has to answer: it checks once more what is checked here.
func (d *definition) serveBytes(w http.ResponseWriter, req *http.Request, info *request.RequestInfo) bool {
	if d.h.cfg.Reader == nil || req.Method != http.MethodGet || info.Subresource != "" || info.APIVersion != d.stored || !d.serves(info.APIVersion) {
		return false
	}
	crd := d.state.Load().crd
	namespaced := crd.Spec.Scope == apiextensions.NamespaceScoped
	if !namespaced && info.Namespace != "" || deprecated(crd, info.APIVersion) {
		return false
	}
	var try func(w http.ResponseWriter) bool
	switch info.Verb {
	case "get":
		if namespaced && info.Namespace == "" {
			return false
		}
		try = func(w http.ResponseWriter) bool { return d.h.cfg.Reader.Get(w, req, info, d.bytes()) }
	case "list":
		try = func(w http.ResponseWriter) bool { return d.h.cfg.Reader.List(w, req, info, d.bytes()) }
	case "watch":
		req = req.WithContext(endWith(req.Context(), d.ended))
		try = func(w http.ResponseWriter) (done bool) {
			metrics.RecordLongRunning(req, info, metrics.APIServerComponent, func() { done = d.h.cfg.Reader.Watch(w, req, info, d.bytes()) })
			return done
		}
	default:
		return false
	}
	received, ok := request.ReceivedTimestampFrom(req.Context())
	if !ok {
		received = time.Now()
	}
	counted := &metrics.ResponseWriterDelegator{ResponseWriter: w}
	if !try(responsewriter.WrapForHTTP1Or2(counted)) {
		return false // upstream's handler counts it
	}
	metrics.MonitorRequest(req, strings.ToUpper(info.Verb), info.APIGroup, info.APIVersion, info.Resource, "", metrics.CleanScope(info),
		metrics.APIServerComponent, false, "", counted.Status(), counted.ContentLength(), time.Since(received))
	return true
}

func deprecated(crd *apiextensions.CustomResourceDefinition, version string) bool {
	for _, v := range crd.Spec.Versions {
		if v.Name == version {
			return v.Deprecated
		}
	}
	return false
}

// newResource describes the stored version to the reader.
func (d *definition) newResource() *read.Resource {
	names := d.state.Load().crd.Status.AcceptedNames
	crd := d.state.Load().crd
	kind := d.kind(d.stored)
	return d.h.cfg.Reader.NewResource(read.ResourceConfig{
		Kind: kind, ListKind: names.ListKind, Resource: d.gr.WithVersion(d.stored),
		Namespaced: crd.Spec.Scope == apiextensions.NamespaceScoped, Unstructured: true,
		New: d.codecs[d.stored].Config().New, Codec: d.codecs[d.stored], Cache: d.h.cfg.Backend.Cache,
		Serializer: jsonOnly{}, FieldLabel: fieldLabels(crd, d.stored),
	})
}

// fieldLabels tells which fields can be selected by.
func fieldLabels(crd *apiextensions.CustomResourceDefinition, version string) func(label, value string) (string, string, error) {
	known := map[string]bool{"metadata.name": true, "metadata.namespace": crd.Spec.Scope == apiextensions.NamespaceScoped}
	for _, v := range crd.Spec.Versions {
		if v.Name == version {
			for _, f := range v.SelectableFields {
				known[strings.TrimPrefix(f.JSONPath, ".")] = true
			}
		}
	}
	return func(label, value string) (string, string, error) {
		if !known[label] {
			return "", "", errNotSelectable // upstream says what is wrong
		}
		return label, value, nil
	}
}
