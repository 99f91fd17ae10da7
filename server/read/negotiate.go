package read

import (
	"net/http"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	auditapi "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/endpoints/handlers/negotiation"
)

// media is an encoding that can be served from bytes.
type media uint8

const (
	mediaJSON media = iota
	mediaProtobuf
	mediaCount
)

func (m media) contentType() string {
	if m == mediaProtobuf {
		return runtime.ContentTypeProtobuf
	}
	return runtime.ContentTypeJSON
}

// streamType is the Content-Type of a watch.
func (m media) streamType() string {
	if m == mediaProtobuf {
		return runtime.ContentTypeProtobuf + ";stream=watch"
	}
	return runtime.ContentTypeJSON
}

// negotiate finds the encoding of the answer. It is not ok when the answer is not one that bytes can give, be it an error.
func (r *Resource) negotiate(req *http.Request, stream bool) (media, bool) {
	m, ok := r.accepted(req.Header.Get("Accept"), stream)
	if !ok || r.encoders[m] == nil {
		return 0, false
	}
	// Watches are never indented. For the rest, upstream's rule about parameters and user agents is only approximated, on
	// the safe side.
	if !stream && (strings.Contains(req.URL.RawQuery, "pretty") || readByPeople(req.UserAgent())) {
		return 0, false
	}
	return m, true
}

func (r *Resource) accepted(accept string, stream bool) (media, bool) {
	// What nearly all clients send, without parsing. The general road gives the same answers for these.
	switch accept {
	case "", "*/*", "application/json", "application/json, */*", "application/json;stream=watch":
		return mediaJSON, true
	case "application/vnd.kubernetes.protobuf",
		"application/vnd.kubernetes.protobuf,application/json",
		"application/vnd.kubernetes.protobuf, application/json",
		"application/vnd.kubernetes.protobuf;stream=watch":
		if r.encoders[mediaProtobuf] != nil {
			return mediaProtobuf, true
		}
	}
	opts, ok := negotiation.NegotiateMediaTypeOptions(accept, r.serializer.SupportedMediaTypes(), anything{})
	if !ok || opts.Convert != nil || (opts.Pretty && !stream) {
		return 0, false
	}
	switch opts.Accepted.MediaType {
	case runtime.ContentTypeJSON:
		return mediaJSON, true
	case runtime.ContentTypeProtobuf:
		return mediaProtobuf, true
	}
	return 0, false
}

// negotiatesTable tells whether the answer is to be a JSON table of v1 that shows the objects' metadata.
func (r *Resource) negotiatesTable(req *http.Request) bool {
	if r.table == nil || r.encoders[mediaJSON] == nil {
		return false
	}
	query := req.URL.RawQuery
	if strings.Contains(query, "includeObject") || strings.Contains(query, "noHeaders") || strings.Contains(query, "pretty") || readByPeople(req.UserAgent()) {
		return false
	}
	opts, ok := negotiation.NegotiateMediaTypeOptions(req.Header.Get("Accept"), r.serializer.SupportedMediaTypes(), anything{})
	return ok && opts.Convert != nil && *opts.Convert == metav1.SchemeGroupVersion.WithKind("Table") &&
		opts.Accepted.MediaType == runtime.ContentTypeJSON && !opts.Pretty
}

// anything restricts nothing, so that a request for a transformation is recognized as one and left to upstream.
type anything struct{}

func (anything) AllowsMediaTypeTransform(string, string, *schema.GroupVersionKind) bool { return true }

func (anything) AllowsServerVersion(v string) bool { return v == "v1" }

func (anything) AllowsStreamSchema(s string) bool { return s == "watch" }

// readByPeople tells whether upstream indents for this user agent.
func readByPeople(userAgent string) bool {
	return strings.HasPrefix(userAgent, "curl") || strings.HasPrefix(userAgent, "Wget") || strings.HasPrefix(userAgent, "Mozilla/5.0")
}

// auditsBody tells whether the answer's object goes into the audit log, which takes a decoded one.
func auditsBody(req *http.Request) bool {
	ac := audit.AuditContextFrom(req.Context())
	return ac != nil && !ac.GetEventLevel().Less(auditapi.LevelRequestResponse)
}

// hasToken tells whether a comma-separated header value has the token.
func hasToken(header, token string) bool {
	for header != "" {
		var part string
		part, header, _ = strings.Cut(header, ",")
		if strings.TrimSpace(part) == token {
			return true
		}
	}
	return false
}
