package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

const (
	label = "conformance.rowlock.io/load" // on every object of a load
	field = "n"                           // the number of the write that made the object
)

// worker writes to objects that are its own.
type worker struct {
	load *Load
	name string
	rng  *rand.Rand
	keys []*object
	n    int // numbers the worker's writes
}

// object is what the worker knows of one of its objects.
type object struct {
	name string
	last *corev1.ConfigMap // as last seen; nil when it was not there
	may  states            // more than one while the outcome of a write is unknown
}

func (w *worker) run(ctx context.Context) {
	for _, o := range w.keys {
		o.may = states{0}
		w.load.setKnown(o.name, o.may)
	}
	for ctx.Err() == nil {
		o := w.keys[w.rng.IntN(len(w.keys))]
		w.n++
		var err error
		switch {
		case o.last == nil:
			err = w.create(o)
		case w.rng.IntN(5) == 0:
			err = w.delete(o)
		default:
			err = w.update(o)
		}
		if err != nil && !w.look(ctx, o) {
			return
		}
	}
}

// Writes are not cut short at the end of the load: their outcome is to be known.
func (w *worker) create(o *object) error {
	cm := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: o.name, Labels: map[string]string{label: w.load.prefix}},
		Data:       map[string]string{field: strconv.Itoa(w.n)},
	}
	created, err := w.load.maps.Create(context.Background(), cm, metav1.CreateOptions{})
	return w.settle(o, created, w.n, err, "create")
}

func (w *worker) update(o *object) error {
	cm := o.last.DeepCopy()
	cm.Data[field] = strconv.Itoa(w.n)
	updated, err := w.load.maps.Update(context.Background(), cm, metav1.UpdateOptions{})
	return w.settle(o, updated, w.n, err, "update")
}

func (w *worker) delete(o *object) error {
	err := w.load.maps.Delete(context.Background(), o.name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{
		UID: ptr.To(o.last.UID), ResourceVersion: ptr.To(o.last.ResourceVersion),
	}})
	return w.settle(o, nil, 0, err, "delete")
}

// settle notes the outcome of a write that should have led to the state n. After an error the caller looks at the object.
func (w *worker) settle(o *object, result *corev1.ConfigMap, n int, err error, verb string) error {
	switch {
	case err == nil:
		o.last, o.may = result, states{n}
		version := ""
		if result != nil {
			version = result.ResourceVersion
		}
		w.load.acknowledge(version, fmt.Sprintf("%s %s n=%d", verb, o.name, w.n))
	case unknown(err):
		if !o.may.has(n) {
			o.may = append(o.may, n)
		}
	case refused(err) && len(o.may) > 1:
		// an earlier write of unknown outcome got there first
	default:
		w.load.fault("%s %s, write %d on state %v: %w", verb, o.name, w.n, o.may, err)
	}
	w.load.setKnown(o.name, o.may)
	return err
}

// look reads the object until the server answers, and checks that it is as it may be. A state other than the one the
// worker knew settles the matter; the old state does not, for the write may still be under way. It returns false when
// the load ends.
func (w *worker) look(ctx context.Context, o *object) bool {
	for {
		cm, err := w.load.maps.Get(ctx, o.name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			w.found(o, nil, 0)
			return true
		case err == nil:
			n, err := number(cm)
			if err != nil {
				w.load.fault("%w", err)
			}
			w.found(o, cm, n)
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (w *worker) found(o *object, cm *corev1.ConfigMap, n int) {
	if !o.may.has(n) {
		w.load.fault("%s is as write %d left it, expected one of %v (0: not there)", o.name, n, o.may)
	}
	before := 0
	if o.last != nil {
		before, _ = number(o.last)
	}
	o.last = cm
	if n != before {
		o.may = states{n}
	}
	w.load.setKnown(o.name, o.may)
}

// number returns which write made the object.
func number(cm *corev1.ConfigMap) (int, error) {
	n, err := strconv.Atoi(cm.Data[field])
	if err != nil {
		return 0, fmt.Errorf("%s holds what no worker wrote: %q", cm.Name, cm.Data)
	}
	return n, nil
}
