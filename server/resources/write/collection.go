package write

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"

	"github.com/rowlock-io/rowlock/schema/adapter"
	"github.com/rowlock-io/rowlock/schema/object"
)

// listed returns a context whose lists remember what they show, if the answer can be made of it.
func (h *Handlers) listed(ctx context.Context, req *http.Request) (context.Context, *adapter.Listed) {
	if _, stored := h.answered(ctx, req); stored == nil {
		return ctx, nil
	}
	return adapter.WithListed(ctx)
}

// answerDeleted sends what was deleted, an object or a list, or how that went.
func (h *Handlers) answerDeleted(w http.ResponseWriter, req *http.Request, s *span, code int, result runtime.Object, listed *adapter.Listed) {
	s.event("About to write a response")
	defer s.event("Writing http response done")
	if meta.IsListType(result) && meta.LenList(result) == 0 {
		if err := meta.SetList(result, []runtime.Object{}); err != nil { // an empty array, not null
			h.fail(w, req, err)
			return
		}
	}
	if list, ok := h.storedList(result, listed); ok {
		result = list
	}
	responsewriters.WriteObjectNegotiated(h.scope.Serializer, h.scope, h.scope.Kind.GroupVersion(), w, req, code, result, false)
}

// storedList wraps a list, when it is known which stored states it shows.
func (h *Handlers) storedList(result runtime.Object, listed *adapter.Listed) (runtime.Object, bool) {
	views, ok := listed.Shows(result)
	if !ok || h.cfg.Scheme == nil || meta.LenList(result) != len(views) {
		return nil, false
	}
	kinds, _, err := h.cfg.Scheme.ObjectKinds(result)
	if err != nil || len(kinds) == 0 {
		return nil, false
	}
	listMeta, ok := listMetaOf(result)
	if !ok {
		return nil, false
	}
	shown, err := json.Marshal(listMeta)
	if err != nil {
		return nil, false
	}
	l := &storedList{
		obj: result, encoder: h.codecs.encoder.Identifier(), items: make([]storedItem, len(views)), cut: len(h.cfg.Stored.head),
		head: fmt.Appendf(nil, `{"kind":%q,"apiVersion":%q,"metadata":%s,"items":[`, kinds[0].Kind, h.scope.Kind.GroupVersion().String(), shown),
	}
	for i, v := range views {
		data, off, err := v.JSON()
		if err != nil || !bytes.HasPrefix(data, h.cfg.Stored.head) {
			return nil, false
		}
		l.items[i] = storedItem{view: v, data: data, off: off}
	}
	return l, true
}

func listMetaOf(list runtime.Object) (metav1.ListMeta, bool) {
	v := reflect.ValueOf(list)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return metav1.ListMeta{}, false
	}
	field := v.Elem().FieldByName("ListMeta")
	if !field.IsValid() {
		return metav1.ListMeta{}, false
	}
	out, ok := field.Interface().(metav1.ListMeta)
	return out, ok
}

// storedList is a list with the stored JSON of its items.
type storedList struct {
	obj     runtime.Object
	encoder runtime.Identifier // whose output the encoding is
	head    []byte             // in front of the items
	items   []storedItem
	cut     int // how much of an item's JSON is its type, which items of a list do not show
}

type storedItem struct {
	view *object.View
	data []byte
	off  int
}

var _ runtime.CacheableObject = (*storedList)(nil)

// GetObjectKind implements runtime.Object.
func (l *storedList) GetObjectKind() schema.ObjectKind { return l.obj.GetObjectKind() }

// DeepCopyObject implements runtime.Object.
func (l *storedList) DeepCopyObject() runtime.Object { return l.obj.DeepCopyObject() }

// GetObject implements runtime.CacheableObject.
func (l *storedList) GetObject() runtime.Object { return l.obj.DeepCopyObject() }

// CacheEncode implements runtime.CacheableObject.
func (l *storedList) CacheEncode(id runtime.Identifier, encode func(runtime.Object, io.Writer) error, w io.Writer) error {
	if id != l.encoder {
		return encode(l.obj.DeepCopyObject(), w)
	}
	size := len(l.head) + 3
	for i := range l.items {
		size += len(l.items[i].data) + 48
	}
	// It goes out in pieces. The first one decides about compression, and so has to be large if the list is.
	buf := append(make([]byte, 0, min(size, 2*largeAnswer)), l.head...)
	for i := range l.items {
		if i > 0 {
			buf = append(buf, ',')
		}
		item := &l.items[i]
		begin, skip := len(buf), l.cut-1
		buf = object.AppendJSON(buf, item.data[skip:], item.off-skip, item.view.Revision())
		buf[begin] = '{' // where the comma behind the type was
		if len(buf) > largeAnswer {
			if _, err := w.Write(buf); err != nil {
				return err
			}
			buf = buf[:0]
		}
	}
	_, err := w.Write(append(buf, "]}\n"...))
	return err
}
