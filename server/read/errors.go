package read

import (
	"context"
	"errors"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/request"
	apistorage "k8s.io/apiserver/pkg/storage"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/rowlock-io/rowlock/storage"
)

// qualified is the group and resource that errors name: those of the request, as in the generic registry.
func qualified(info *request.RequestInfo) schema.GroupResource {
	return schema.GroupResource{Group: info.APIGroup, Resource: info.Resource}
}

// apiError gives a storage error its meaning on the wire. Errors that already have one pass through.
func (h *Handler) apiError(err error, gr schema.GroupResource, verb string) error {
	var status apierrors.APIStatus
	switch {
	case err == nil || errors.As(err, &status):
		return err
	case errors.Is(err, storage.ErrCompacted):
		return apierrors.NewResourceExpired(listExpired)
	case errors.Is(err, storage.ErrBusy), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return apierrors.NewServerTimeout(gr, verb, 2)
	case errors.Is(err, storage.ErrClosed):
		return apierrors.NewServiceUnavailable("the server is shutting down")
	}
	h.cfg.Log.Error("Read failed", "verb", verb, "resource", gr.String(), "err", err)
	return apierrors.NewInternalError(errors.New("the stored data could not be read"))
}

// fail answers a request with an error.
func (h *Handler) fail(w http.ResponseWriter, req *http.Request, info *request.RequestInfo, res *Resource, err error) {
	err = h.apiError(err, qualified(info), info.Verb)
	responsewriters.ErrorNegotiated(err, res.serializer, res.Kind.GroupVersion(), w, req)
}

// tooLarge is the answer to a resourceVersion that the cache did not reach in time; clients try again after a second.
func tooLarge(asked, current storage.Revision) error {
	return apistorage.NewTooLargeResourceVersionError(uint64(asked), uint64(current), 1)
}
