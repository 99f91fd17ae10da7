package clients_test

import (
	"fmt"
	"strconv"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

// journal is told what an informer saw, and notes when an object went back in time.
type journal struct {
	mu     sync.Mutex
	newest map[string]uint64
	events int
	faults []string
}

func newJournal() *journal { return &journal{newest: map[string]uint64{}} }

func (j *journal) handler() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { j.saw("add", obj) },
		UpdateFunc: func(_, obj any) { j.saw("update", obj) },
		DeleteFunc: func(obj any) { j.saw("delete", obj) },
	}
}

func (j *journal) saw(what string, obj any) {
	if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = gone.Obj
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events++
	m, err := meta.Accessor(obj)
	if err != nil {
		j.faults = append(j.faults, fmt.Sprintf("%s of %T", what, obj))
		return
	}
	version, err := strconv.ParseUint(m.GetResourceVersion(), 10, 64)
	if err != nil {
		j.faults = append(j.faults, err.Error())
		return
	}
	if version < j.newest[m.GetName()] {
		j.faults = append(j.faults,
			fmt.Sprintf("%s of %s at %d came after %d", what, m.GetName(), version, j.newest[m.GetName()]))
	}
	j.newest[m.GetName()] = version
}

// contents returns the resourceVersion of each object by name.
func contents(objects []any) map[string]string {
	found := map[string]string{}
	for _, obj := range objects {
		m := obj.(metav1.Object)
		found[m.GetName()] = m.GetResourceVersion()
	}
	return found
}
