package resources

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	auditapi "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/audit"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/rowlock-io/rowlock/schema/adapter"
	"github.com/rowlock-io/rowlock/schema/object"
	"github.com/rowlock-io/rowlock/server/internal/stack"
	"github.com/rowlock-io/rowlock/storage"
)

// reply answers writes with the JSON that they stored, which is what encoding the result again would give. A nil reply
// leaves everything to upstream.
type reply struct {
	head    []byte             // what every stored object begins with
	encoder runtime.Identifier // of the encoder whose output the stored JSON is
}

// newReply returns nil where the stored JSON is not what the endpoint shows.
func (ep *endpoint) newReply() *reply {
	if !ep.res.StoredVersion || ep.src.Kind != ep.res.Kind || !showsStored(ep.res.Storage) {
		return nil
	}
	serializer := ep.res.Group.NegotiatedSerializer
	info, ok := runtime.SerializerInfoForMediaType(serializer.SupportedMediaTypes(), runtime.ContentTypeJSON)
	if !ok {
		return nil
	}
	gv := ep.src.Kind.GroupVersion()
	return &reply{
		head:    fmt.Appendf(nil, `{"kind":%q,"apiVersion":%q,`, ep.src.Kind.Kind, gv.String()),
		encoder: serializer.EncoderForVersion(info.Serializer, gv).Identifier(),
	}
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

// asked marks requests that take plain JSON, so that their writes remember what they stored.
func (r *reply) asked(handle http.HandlerFunc) http.HandlerFunc {
	if r == nil {
		return handle
	}
	return func(w http.ResponseWriter, req *http.Request) {
		switch req.Header.Get("Accept") {
		case "", "*/*", "application/json", "application/json, */*":
			// The audit log takes a decoded object.
			if ac := audit.AuditContextFrom(req.Context()); ac == nil || ac.GetEventLevel().Less(auditapi.LevelRequestResponse) {
				ctx, _ := adapter.WithAnswer(req.Context())
				req = req.WithContext(ctx)
			}
		}
		handle(w, req)
	}
}

// of wraps the result of a write, when it is known which stored state it shows.
func (r *reply) of(ctx context.Context, result runtime.Object) runtime.Object {
	view, rev, ok := adapter.AnswerOf(ctx).Shows(result)
	if !ok {
		return result
	}
	data, off, err := view.JSON()
	if err != nil || !bytes.HasPrefix(data, r.head) {
		return result
	}
	return &storedResult{reply: r, obj: result, data: data, off: off, rev: rev}
}

// storedResult is the result of a write with its encoding in the stored version.
type storedResult struct {
	reply *reply
	obj   runtime.Object
	data  []byte
	off   int
	rev   storage.Revision
}

var _ runtime.CacheableObject = (*storedResult)(nil)

// GetObjectKind implements runtime.Object.
func (s *storedResult) GetObjectKind() schema.ObjectKind { return s.obj.GetObjectKind() }

// DeepCopyObject implements runtime.Object.
func (s *storedResult) DeepCopyObject() runtime.Object { return s.obj.DeepCopyObject() }

// GetObject implements runtime.CacheableObject.
func (s *storedResult) GetObject() runtime.Object { return s.obj.DeepCopyObject() }

// CacheEncode implements runtime.CacheableObject.
func (s *storedResult) CacheEncode(id runtime.Identifier, encode func(runtime.Object, io.Writer) error, w io.Writer) error {
	if id != s.reply.encoder {
		return encode(s.obj.DeepCopyObject(), w) // indented, for example
	}
	buf := make([]byte, 0, len(s.data)+48)
	_, err := w.Write(append(object.AppendJSON(buf, s.data, s.off, s.rev), '\n'))
	return err
}

type replyingCreater struct {
	rest.Creater
	reply *reply
}

func (r *reply) creater(c rest.Creater) rest.Creater {
	if r == nil {
		return c
	}
	return replyingCreater{c, r}
}

// Create implements rest.Creater.
func (c replyingCreater) Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc, options *metav1.CreateOptions) (runtime.Object, error) {
	result, err := c.Creater.Create(ctx, obj, validate, options)
	if err != nil {
		return result, err
	}
	return c.reply.of(ctx, result), nil
}

type replyingUpdater struct {
	rest.Updater
	reply *reply
}

func (r *reply) updater(u rest.Updater) rest.Updater {
	if r == nil {
		return u
	}
	return replyingUpdater{u, r}
}

// Update implements rest.Updater.
func (u replyingUpdater) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, create rest.ValidateObjectFunc,
	update rest.ValidateObjectUpdateFunc, force bool, options *metav1.UpdateOptions,
) (runtime.Object, bool, error) {
	stack.Grow() // upstream's handlers call this on a goroutine of its own
	result, created, err := u.Updater.Update(ctx, name, info, create, update, force, options)
	if err != nil {
		return result, created, err
	}
	return u.reply.of(ctx, result), created, nil
}

type replyingPatcher struct {
	rest.Getter
	replyingUpdater
}

func (r *reply) patcher(p rest.Patcher) rest.Patcher {
	if r == nil {
		return p
	}
	return replyingPatcher{p, replyingUpdater{p, r}}
}
