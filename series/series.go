// Package series finds the series that upstream's packages register and keep to themselves, so that what is counted with each
// request can be looked up once instead of each time.
package series

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/component-base/metrics/legacyregistry"
)

// Find returns a collector of the process's registry: who registers its like is told which there is. It panics where there
// is none with this name, text and labels, so another version of upstream does not get past the first test.
func Find[T prometheus.Collector](name, help string, labels ...string) T {
	like := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	err := legacyregistry.Registerer().Register(like)
	var there prometheus.AlreadyRegisteredError
	if !errors.As(err, &there) {
		panic(fmt.Sprintf("series: upstream has no %s as expected: %v", name, err))
	}
	found, ok := there.ExistingCollector.(T)
	if !ok {
		panic(fmt.Sprintf("series: upstream's %s is a %T", name, there.ExistingCollector))
	}
	return found
}
