package write

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	auditapi "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/endpoints/handlers/negotiation"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/request"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/rowlock-io/rowlock/schema/adapter"
	"github.com/rowlock-io/rowlock/schema/object"
)

// Stored makes answers of the JSON that was stored, which is what encoding the result again would give.
type Stored struct {
	head []byte // what every stored object begins with
}

// NewStored is for storages that show objects of a kind as they are stored, in that version; nil for others.
func NewStored(kind schema.GroupVersionKind, storage rest.Storage) *Stored {
	if !showsStored(storage) {
		return nil
	}
	return &Stored{head: fmt.Appendf(nil, `{"kind":%q,"apiVersion":%q,`, kind.Kind, kind.GroupVersion().String())}
}

// NewStoredMaps is for kinds whose objects are maps, which storages show as they are stored.
func NewStoredMaps(kind schema.GroupVersionKind) *Stored {
	return &Stored{head: fmt.Appendf(nil, `{"apiVersion":%q,"kind":%q,`, kind.GroupVersion().String(), kind.Kind)}
}

// showsStored tells whether a storage is a plain registry, which shows objects as they are stored.
func showsStored(s rest.Storage) bool {
	v := reflect.ValueOf(s)
	for range 3 { // a registry in a struct of its own, or of another's
		if store, ok := v.Interface().(*genericregistry.Store); ok {
			return store != nil && store.Decorator == nil
		}
		if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
			return false
		}
		if v = v.Elem().FieldByName("Store"); !v.IsValid() || !v.CanInterface() {
			return false
		}
	}
	return false
}

// Takes tells whether a request is answered here, and not by what upstream has for it.
func (h *Handlers) Takes(req *http.Request) bool {
	return h.takes(req) && (req.Method != http.MethodPatch || slices.Contains(PatchTypes, string(patchType(req))))
}

// takes tells whether a request asks for objects as they are, in a media type that there is.
func (h *Handlers) takes(req *http.Request) bool {
	if h.takesJSON(req) {
		return true
	}
	media, _, err := negotiation.NegotiateOutputMediaType(req, h.scope.Serializer, h.scope)
	return err == nil && media.Convert == nil
}

// takesJSON tells whether a request asks for JSON without spaces, or for nothing else.
func (h *Handlers) takesJSON(req *http.Request) bool {
	switch req.Header.Get("Accept") {
	case "", "*/*", "application/json", "application/json, */*":
	default:
		return false
	}
	if !h.codecs.jsonFirst || strings.Contains(req.URL.RawQuery, "pretty") {
		return false
	}
	for _, human := range []string{"curl", "Wget", "Mozilla/5.0"} { // they get it indented
		if strings.HasPrefix(req.UserAgent(), human) {
			return false
		}
	}
	return true
}

// answered returns a context whose write remembers what it stored, if the answer can be made of it.
func (h *Handlers) answered(ctx context.Context, req *http.Request) (context.Context, *adapter.Answer) {
	if h.cfg.Stored == nil || !h.takesJSON(req) {
		return ctx, nil
	}
	// The audit log takes a decoded object.
	if ac := audit.AuditContextFrom(ctx); ac != nil && !ac.GetEventLevel().Less(auditapi.LevelRequestResponse) {
		return ctx, nil
	}
	return adapter.WithAnswer(ctx)
}

// largeAnswer is from where on answers may be compressed, which is upstream's.
const largeAnswer = 128 << 10

// answer sends the result of a write.
func (h *Handlers) answer(w http.ResponseWriter, req *http.Request, s *span, code int, result runtime.Object, stored *adapter.Answer) {
	s.event("About to write a response")
	defer s.event("Writing http response done")
	if data := h.json(result, stored); data != nil {
		request.TrackSerializeResponseObjectLatency(req.Context(), func() {
			w.Header().Set("Content-Type", runtime.ContentTypeJSON)
			w.WriteHeader(code)
			_, _ = w.Write(data) // the client may be gone
		})
		return
	}
	responsewriters.WriteObjectNegotiated(h.scope.Serializer, h.scope, h.scope.Kind.GroupVersion(), w, req, code, result, false)
}

// json returns the stored JSON of a result; nil where it is not what encoding the result would give, or would be compressed.
func (h *Handlers) json(result runtime.Object, stored *adapter.Answer) []byte {
	view, rev, ok := stored.Shows(result)
	if !ok {
		return nil
	}
	data, off, err := view.JSON()
	if err != nil || !bytes.HasPrefix(data, h.cfg.Stored.head) || len(data) >= largeAnswer {
		return nil
	}
	return append(object.AppendJSON(make([]byte, 0, len(data)+48), data, off, rev), '\n')
}
