package custom

import (
	"mime"
	"net/http"

	upstream "k8s.io/apiextensions-apiserver/pkg/apiserver"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/handlers/negotiation"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/request"
)

// refuse answers bodies in protobuf, which custom resources do not have. Upstream's handler panics over them: its
// serializer of protobuf, which is there for answers, has no strict form.
func refuse(w http.ResponseWriter, req *http.Request, info *request.RequestInfo) bool {
	if req.Method != http.MethodPost && req.Method != http.MethodPut || info.Subresource == "scale" {
		return false
	}
	media, _, err := mime.ParseMediaType(req.Header.Get("Content-Type"))
	if err != nil || media != runtime.ContentTypeProtobuf {
		return false
	}
	responsewriters.ErrorNegotiated(negotiation.NewUnsupportedMediaTypeError([]string{runtime.ContentTypeJSON, runtime.ContentTypeYAML}),
		upstream.Codecs, schema.GroupVersion{Group: info.APIGroup, Version: info.APIVersion}, w, req)
	return true
}
