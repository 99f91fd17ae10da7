// Package narrow has upstream's patch handler look at those fields of an object only that a patch names. The handler turns
// an object into a tree of maps, or into JSON, and back, which is most of the work of a patch: of a pod whose label is set
// that is all of its containers. What the patch does not name cannot change by it, and is added again before defaults are
// set, so that everything that follows sees the whole object.
//
// It is for merge patches and strategic merge patches. When one fails, the handler runs once more with the whole object,
// because upstream's words may contain it.
package narrow

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/versioning"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/endpoints/handlers"
)

// Patches makes handlers for the patches of one resource.
type Patches struct {
	shape *shape
	kind  schema.GroupVersionKind
	build func(*handlers.RequestScope) http.HandlerFunc
}

// For returns how objects of a kind are patched by the handlers that build makes for a scope. The scheme knows the kind.
func For(scheme *runtime.Scheme, kind schema.GroupVersionKind, build func(*handlers.RequestScope) http.HandlerFunc) *Patches {
	p := &Patches{kind: kind, build: build}
	if obj, err := scheme.New(kind); err == nil {
		p.shape = shapeOf(obj)
	}
	return p
}

// Handler answers one patch.
func (p *Patches) Handler(scope *handlers.RequestScope) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		patchType, _, _ := strings.Cut(req.Header.Get("Content-Type"), ";")
		strategic := patchType == string(types.StrategicMergePatchType)
		if p.shape == nil || !strategic && patchType != string(types.MergePatchType) {
			p.build(scope)(w, req)
			return
		}
		patch, rest := body(req.Body, scope.MaxRequestBodyBytes)
		req.Body = again(patch, rest)
		fields, ok := read(patch, strategic)
		// Of a merge patch, strict validation shows the whole object even when it is about the patch alone.
		if !ok || rest != nil || !strategic && strings.Contains(req.URL.RawQuery, metav1.FieldValidationStrict) {
			p.build(scope)(w, req)
			return
		}
		v := &view{Patches: p, scope: scope, fields: fields}
		answer := &unlessFailed{ResponseWriter: w, view: v}
		p.build(v.narrowed())(answer, req)
		if answer.dropped {
			req.Body = again(patch, nil)
			p.build(scope)(w, req)
		}
	}
}

// body reads a patch that is not larger than it may be; rest is what was not read, or the error that came instead.
func body(r io.ReadCloser, limit int64) (patch []byte, rest io.Reader) {
	if r == nil {
		return nil, nil
	}
	var buf bytes.Buffer
	if limit <= 0 {
		_, err := buf.ReadFrom(r)
		return buf.Bytes(), failing(err)
	}
	n, err := buf.ReadFrom(io.LimitReader(r, limit+1))
	if n > limit && err == nil {
		return buf.Bytes(), r
	}
	return buf.Bytes(), failing(err)
}

// failing returns a reader that has nothing but an error; nil without one.
func failing(err error) io.Reader {
	if err == nil {
		return nil
	}
	return errorReader{err}
}

type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }

// again returns a body that has the patch, and then the rest.
func again(patch []byte, rest io.Reader) io.ReadCloser {
	if rest == nil {
		return io.NopCloser(bytes.NewReader(patch))
	}
	return io.NopCloser(io.MultiReader(bytes.NewReader(patch), rest))
}

// unlessFailed drops the answer of a handler that is going to run again. What it does is settled when the answer begins: an
// attempt that the handler no longer waits for may fail after that.
type unlessFailed struct {
	http.ResponseWriter
	view    *view
	begun   bool
	dropped bool // the handler has to run again
}

// Unwrap is for http.ResponseController.
func (u *unlessFailed) Unwrap() http.ResponseWriter { return u.ResponseWriter }

// begin settles whether the answer is dropped.
func (u *unlessFailed) begin() {
	if !u.begun {
		u.begun, u.dropped = true, u.view.failed.Load()
	}
}

// WriteHeader implements http.ResponseWriter.
func (u *unlessFailed) WriteHeader(code int) {
	if u.begin(); !u.dropped {
		u.ResponseWriter.WriteHeader(code)
	}
}

// Write implements http.ResponseWriter.
func (u *unlessFailed) Write(data []byte) (int, error) {
	if u.begin(); u.dropped {
		return len(data), nil
	}
	return u.ResponseWriter.Write(data)
}

// view is what one request's handler sees: it stands between the handler and the scheme. Attempts come one after another.
type view struct {
	*Patches
	scope  *handlers.RequestScope
	fields touched

	encoders int            // that the handler asked for
	whole    runtime.Object // the object of this attempt, in the version of the patch
	failed   atomic.Bool    // the patched part could not be decoded
}

// narrowed returns the scope with the view in place of the scheme, where patches are applied.
func (v *view) narrowed() *handlers.RequestScope {
	scope := *v.scope
	scope.UnsafeConvertor = converter{scope.UnsafeConvertor, v}
	scope.Defaulter = defaulter{scope.Defaulter, v}
	scope.Serializer = serializer{scope.Serializer, v}
	return &scope
}

// converter shows the part of an object that a patch names when it is converted to the version of the patch.
type converter struct {
	runtime.ObjectConvertor
	view *view
}

// ConvertToVersion implements runtime.ObjectConvertor.
func (c converter) ConvertToVersion(in runtime.Object, gv runtime.GroupVersioner) (runtime.Object, error) {
	out, err := c.ObjectConvertor.ConvertToVersion(in, gv)
	if err != nil || gv != runtime.GroupVersioner(c.view.kind.GroupVersion()) {
		return out, err
	}
	c.view.whole = out
	return c.view.shape.part(out, c.view.fields), nil
}

// defaulter completes a patched part before it sets defaults.
type defaulter struct {
	runtime.ObjectDefaulter
	view *view
}

// Default implements runtime.ObjectDefaulter.
func (d defaulter) Default(obj runtime.Object) {
	d.view.shape.complete(obj, d.view.whole, d.view.fields)
	d.ObjectDefaulter.Default(obj)
}

// serializer makes the codec of a JSON patch.
type serializer struct {
	runtime.NegotiatedSerializer
	view *view
}

// EncoderForVersion implements runtime.NegotiatedSerializer. The handler asks first for what encodes the object that it
// patches, and then for what encodes its answer.
func (s serializer) EncoderForVersion(to runtime.Encoder, gv runtime.GroupVersioner) runtime.Encoder {
	s.view.encoders++
	if s.view.encoders > 1 {
		return s.NegotiatedSerializer.EncoderForVersion(to, gv)
	}
	scope := s.view.scope
	return versioning.NewCodec(to, nil, converter{scope.UnsafeConvertor, s.view}, scope.Creater, scope.Typer, nil, gv, nil, "narrow")
}

// DecoderToVersion implements runtime.NegotiatedSerializer.
func (s serializer) DecoderToVersion(from runtime.Decoder, gv runtime.GroupVersioner) runtime.Decoder {
	scope := s.view.scope
	codec := versioning.NewCodec(nil, from, scope.UnsafeConvertor, scope.Creater, scope.Typer, defaulter{scope.Defaulter, s.view}, nil, gv, "narrow")
	return decoder{codec, s.view}
}

// decoder notes failures, whose words contain what was decoded.
type decoder struct {
	runtime.Decoder
	view *view
}

var errAgain = errors.New("the patch is applied to the whole object again")

// Decode implements runtime.Decoder.
func (d decoder) Decode(data []byte, kind *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	obj, kind, err := d.Decoder.Decode(data, kind, into)
	if err != nil {
		d.view.failed.Store(true)
		return nil, kind, errAgain
	}
	return obj, kind, nil
}
