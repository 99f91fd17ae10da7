package read

import (
	"context"
	"errors"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/request"
	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/rowlock-io/rowlock/storage"
)

// retrySeconds is what clients are told to wait when the database is away or a revision is not there yet.
const retrySeconds = 1

// qualified is the group and resource that errors name: those of the request, as in the generic registry.
func qualified(info *request.RequestInfo) schema.GroupResource {
	return schema.GroupResource{Group: info.APIGroup, Resource: info.Resource}
}

// apiError gives a storage error its meaning on the wire, the same as schema/adapter does for all other requests. Errors
// that already have one pass through.
func apiError(err error) error {
	var status apierrors.APIStatus
	switch {
	case err == nil || errors.As(err, &status):
		return err
	case errors.Is(err, storage.ErrCompacted):
		return apierrors.NewResourceExpired(listExpired)
	case errors.Is(err, storage.ErrBusy), errors.Is(err, storage.ErrClosed), errors.Is(err, storage.ErrSchema), errors.Is(err, storage.ErrInUse):
		e := apierrors.NewServiceUnavailable(forClients(err))
		e.ErrStatus.Details = &metav1.StatusDetails{RetryAfterSeconds: retrySeconds}
		return e
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return apierrors.NewTimeoutError("request did not complete within requested timeout", 0)
	}
	return apierrors.NewInternalError(err)
}

// forClients is what clients are told of trouble with the database. What the database itself said names its host and user,
// which are nothing for the tenants of a cluster.
func forClients(err error) string {
	if words := storage.HintOf(err); words != "" {
		return words
	}
	return "the database is not available at the moment"
}

// fail answers a request with an error.
func (h *Handler) fail(w http.ResponseWriter, req *http.Request, res *Resource, err error) {
	responsewriters.ErrorNegotiated(apiError(err), res.serializer, res.Kind.GroupVersion(), w, req)
}

// tooLarge is the answer to a resourceVersion that nobody can have been given yet.
func tooLarge(asked, current storage.Revision) error {
	return apistorage.NewTooLargeResourceVersionError(uint64(asked), uint64(current), retrySeconds)
}
