package openapi

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/munnerz/goautoneg"
)

// encoding is a media type that documents are served in.
type encoding struct {
	subtype  string // below application/
	answer   string // the Content-Type of answers
	protobuf bool
}

// The names with @ were the first ones. They are not valid media types, so answers carry the later names.

func mediaV2() []encoding {
	const answer = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
	return []encoding{
		{"json", "application/json", false},
		{"com.github.proto-openapi.spec.v2@v1.0+protobuf", answer, true},
		{"com.github.proto-openapi.spec.v2.v1.0+protobuf", answer, true},
	}
}

func mediaV3() []encoding {
	const answer = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf"
	return []encoding{
		{"json", "application/json", false},
		{"com.github.proto-openapi.spec.v3.v1.0+protobuf", answer, true},
		{"com.github.proto-openapi.spec.v3@v1.0+protobuf", answer, true},
	}
}

// negotiate finds the encoding the client likes best. ok is false when it likes none.
func negotiate(r *http.Request, offered []encoding) (enc encoding, ok bool) {
	accept := r.Header.Get("Accept")
	if accept == "" {
		accept = "*/*"
	}
	for _, clause := range goautoneg.ParseAccept(accept) {
		for _, e := range offered {
			if (clause.Type == "application" || clause.Type == "*") && (clause.SubType == e.subtype || clause.SubType == "*") {
				return e, true
			}
		}
	}
	return encoding{}, false
}

// encoded answers the document in an encoding and makes it when it does not exist yet.
func (d *document) encoded(until time.Time, enc encoding, building *building) (*blob, error) {
	if enc.protobuf {
		return d.protoBlob(until, building)
	}
	return d.jsonBlob(until, building)
}

// buildTime is how long a request waits for parts of its document, if it may last that long.
const buildTime = 30 * time.Second

// timeToBuild is when a request has to do with what there is: after half of its time, the rest is for sending.
func timeToBuild(r *http.Request) time.Time {
	wait := buildTime
	if deadline, ok := r.Context().Deadline(); ok {
		wait = min(wait, time.Until(deadline)/2)
	}
	return time.Now().Add(wait)
}

// serve answers a request with the document, compressed when the client takes that, and conditional requests without
// it.
func (b *blob) serve(w http.ResponseWriter, r *http.Request, contentType string) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Etag", strconv.Quote(b.etag))
	h.Add("Vary", "Accept-Encoding")
	data := b.member.Plain()
	if acceptsGzip(r) {
		h.Set("Content-Encoding", "gzip")
		data = b.member.Zipped()
	}
	http.ServeContent(w, r, "", b.modified, data)
}

// serveBytes answers a request with a small document whose headers are set.
func serveBytes(w http.ResponseWriter, r *http.Request, data []byte) {
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

// acceptsGzip reads Accept-Encoding (RFC 9110, 12.5.3): an encoding with weight 0 is refused.
func acceptsGzip(r *http.Request) bool {
	for _, line := range r.Header.Values("Accept-Encoding") {
		for part := range strings.SplitSeq(line, ",") {
			name, params, _ := strings.Cut(part, ";")
			if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
				continue
			}
			weight := 1.0
			if q, found := strings.CutPrefix(strings.TrimSpace(params), "q="); found {
				weight, _ = strconv.ParseFloat(strings.TrimSpace(q), 64)
			}
			return weight > 0
		}
	}
	return false
}
