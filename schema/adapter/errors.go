package adapter

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/rowlock-io/rowlock/schema/object"
	"github.com/rowlock-io/rowlock/storage"
)

const (
	// retrySeconds is what clients are told to wait when the database is away or a revision is not there yet.
	retrySeconds = 1

	// The words that clients of upstream know.
	listExpired     = "The resourceVersion for the provided list is too old."
	watchExpired    = "The resourceVersion for the provided watch is too old."
	continueExpired = "The provided continue parameter is too old to display a consistent list result. " +
		"You can start a new list without the continue parameter."
	continueInconsistent = "The provided continue parameter is too old to display a consistent list result. " +
		"You can start a new list without the continue parameter, or use the continue token in this response to " +
		"retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - " +
		"objects that were created, modified, or deleted between the time the first chunk was returned and now may show " +
		"up in the list."
	requestTimedOut = "request did not complete within requested timeout"
)

// fail turns an error of storage into what upstream's registries and handlers pass on to the client. Conflicts never
// come here: they are retried.
func (s *Store) fail(what string, err error) error {
	var status apierrors.APIStatus
	switch {
	case err == nil:
		return nil
	case errors.As(err, &status):
		return err
	case object.IsCorrupt(err):
		// Registries test with a type switch, so the error goes out bare.
		return corrupt(err)
	case errors.Is(err, storage.ErrTooLarge):
		return apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("%s: %v", what, err))
	case errors.Is(err, storage.ErrUnknown):
		return apierrors.NewTimeoutError(fmt.Sprintf("%s: it is not known whether it happened: %s", what, forClients(err)), 0)
	case errors.Is(err, storage.ErrBusy), errors.Is(err, storage.ErrClosed), errors.Is(err, storage.ErrSchema), errors.Is(err, storage.ErrInUse):
		return unavailable(what + ": " + forClients(err))
	case errors.Is(err, context.DeadlineExceeded):
		return apierrors.NewTimeoutError(requestTimedOut, 0)
	case errors.Is(err, context.Canceled):
		return err
	default:
		return apistorage.NewInternalError(fmt.Errorf("%s: %w", what, err))
	}
}

// forClients is what clients are told of trouble with the database. What the database itself said is in the server's log:
// it names hosts and users.
func forClients(err error) string {
	if words := storage.HintOf(err); words != "" {
		return words
	}
	return "the database is not available at the moment"
}

// corrupt finds the error that a registry recognises within one about unreadable bytes.
func corrupt(err error) error {
	var internal apistorage.InternalError
	if errors.As(err, &internal) {
		return internal
	}
	return apistorage.NewInternalError(err)
}

func unavailable(message string) error {
	err := apierrors.NewServiceUnavailable(message)
	err.ErrStatus.Details = &metav1.StatusDetails{RetryAfterSeconds: retrySeconds}
	return err
}

func tooLarge(asked, current storage.Revision) error {
	return apistorage.NewTooLargeResourceVersionError(uint64(asked), uint64(current), retrySeconds)
}

// storeReadError is what a watcher gets for the deletion of an object that nobody can read any more.
func storeReadError(err error) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status:  metav1.StatusFailure,
		Code:    http.StatusInternalServerError,
		Reason:  metav1.StatusReasonStoreReadError,
		Message: "saw a DELETED event, but object data is corrupt - " + err.Error(),
	}}
}
