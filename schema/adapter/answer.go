package adapter

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/rowlock-io/rowlock/schema/object"
	"github.com/rowlock-io/rowlock/storage"
)

// Answer tells a request's handler which stored state the result of its write shows, so that the reply can be made of
// the stored bytes. It is used by one request.
type Answer struct {
	out  runtime.Object
	view *object.View
	rev  storage.Revision
}

type answerKey struct{}

// WithAnswer returns a context whose writes note in the Answer what they showed last.
func WithAnswer(ctx context.Context) (context.Context, *Answer) {
	a := &Answer{}
	return context.WithValue(ctx, answerKey{}, a), a
}

// Shows returns the state that an object shows, when the object is the one that was filled by the last write.
func (a *Answer) Shows(out runtime.Object) (*object.View, storage.Revision, bool) {
	if a == nil || a.view == nil || a.out != out {
		return nil, 0, false
	}
	return a.view, a.rev, true
}

// showWritten is show for what a write answers.
func (s *Store) showWritten(ctx context.Context, v *object.View, at storage.Revision, out runtime.Object) error {
	if err := s.show(v, at, out); err != nil {
		return err
	}
	if a := AnswerOf(ctx); a != nil {
		a.out, a.view, a.rev = out, v, at
	}
	return nil
}

// AnswerOf returns the Answer of a context; nil: it has none.
func AnswerOf(ctx context.Context) *Answer {
	a, _ := ctx.Value(answerKey{}).(*Answer)
	return a
}
