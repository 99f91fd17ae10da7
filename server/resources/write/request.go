package write

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternalscheme "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/endpoints/handlers/metrics"
)

// longest is how long a write may take, whatever its client allows.
const longest = 34 * time.Second

// body reads what a request brings, within the limit of the scope.
func (h *Handlers) body(ctx context.Context, req *http.Request, verb metrics.RequestBodyVerb, s *span) ([]byte, error) {
	data, err := readAll(req, h.scope.MaxRequestBodyBytes)
	if err != nil {
		s.sized("limitedReadBody failed", len(data), err)
		return nil, err
	}
	metrics.RecordRequestBodySize(ctx, h.group, verb, len(data))
	s.sized("limitedReadBody succeeded", len(data), nil)
	return data, nil
}

// mostAtOnce bounds the room that is made for a body because its length was announced.
const mostAtOnce = 1 << 20

func readAll(req *http.Request, limit int64) ([]byte, error) {
	defer func() { _ = req.Body.Close() }()
	var from io.Reader = req.Body
	if limit > 0 {
		from = io.LimitReader(req.Body, limit+1)
	}
	var buf bytes.Buffer
	if n := req.ContentLength; n > 0 {
		buf.Grow(int(min(n, mostAtOnce)) + bytes.MinRead)
	}
	if _, err := buf.ReadFrom(from); err != nil {
		return nil, err
	}
	if limit > 0 && int64(buf.Len()) > limit {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", limit))
	}
	return buf.Bytes(), nil
}

// options fills the options of a write from its query, and checks them.
func (h *Handlers) options(req *http.Request, kind string, into runtime.Object, check func() field.ErrorList) error {
	if req.URL.RawQuery != "" {
		if err := metainternalscheme.ParameterCodec.DecodeParameters(req.URL.Query(), h.scope.MetaGroupVersion, into); err != nil {
			return apierrors.NewBadRequest(err.Error())
		}
	}
	if errs := check(); len(errs) > 0 {
		return apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: kind}, "", errs)
	}
	return nil
}

// typeOf is the type that admission sees of the options of a write.
func typeOf(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{Kind: kind, APIVersion: metav1.GroupName + "/v1"}
}

const (
	createOptions = "CreateOptions"
	updateOptions = "UpdateOptions"
	patchOptions  = "PatchOptions"
)

// directive says what becomes of unknown and duplicate fields.
func directive(asked string) string {
	if asked == "" {
		return metav1.FieldValidationWarn
	}
	return asked
}

// isStrict tells whether unknown and duplicate fields are looked for.
func isStrict(directive string) bool {
	return directive == metav1.FieldValidationWarn || directive == metav1.FieldValidationStrict
}

// manager is the field manager of a request: the one it names, or its user agent up to the first slash.
func manager(named string, req *http.Request) string {
	if named != "" {
		return named
	}
	agent, _, _ := strings.Cut(req.UserAgent(), "/")
	clean := func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }
	if len(agent) <= validation.FieldManagerMaxLength && strings.IndexFunc(agent, clean) < 0 {
		return agent
	}
	var b strings.Builder
	for _, r := range agent {
		if !unicode.IsPrint(r) {
			continue
		}
		if b.Len()+utf8.RuneLen(r) > validation.FieldManagerMaxLength {
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}
