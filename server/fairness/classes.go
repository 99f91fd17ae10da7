package fairness

import (
	"slices"
	"sync"
	"sync/atomic"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
)

// classes remember how upstream classified requests. What they say is true for as long as the configuration does not
// change: each change is counted (seats.Complete) while upstream's lock keeps requests from being classified.
type classes struct {
	changed atomic.Uint64

	mu sync.RWMutex
	of map[kind]*class
	at uint64 // the count when the first of them was learned
}

// maxClasses bounds what is remembered: some hundred bytes each.
const maxClasses = 4096

// kind is all that a flow schema can tell requests apart by, but for the groups of the user.
type kind struct {
	user, verb, group, resource, subresource, namespace string
	path                                                string // where it is not about a resource
	about                                               bool   // a resource
}

func kindOf(who user.Info, info *request.RequestInfo) kind {
	k := kind{user: who.GetName(), verb: info.Verb, about: info.IsResourceRequest, namespace: info.Namespace}
	if k.about {
		k.group, k.resource, k.subresource = info.APIGroup, info.Resource, info.Subresource
	} else {
		k.path = info.Path
	}
	return k
}

// class is where requests of one kind belong.
type class struct {
	groups        []string // of the user
	schema, level string
	schemaUID     []string // as values of a header
	levelUID      []string
	flow          string
	hash          uint64
	set           *seats
	exempt        bool
	series        *flowSeries
}

// find tells where upstream would put a request; nil when that is not known.
func (c *classes) find(k kind, groups []string) *class {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.at != c.changed.Load() {
		return nil
	}
	if found := c.of[k]; found != nil && slices.Equal(found.groups, groups) {
		return found
	}
	return nil
}

// lesson is what upstream does with a request, to be remembered.
type lesson struct {
	at     uint64 // the count of changes
	set    *seats
	hash   uint64
	flow   string
	schema *flowcontrolv1.FlowSchema
	level  *flowcontrolv1.PriorityLevelConfiguration
}

// lessonKey is the key of a lesson in a request's context.
type lessonKey struct{}

// learn remembers what happened to a request.
func (c *classes) learn(k kind, groups []string, l *lesson) {
	if l.set == nil {
		return
	}
	learned := &class{
		groups: slices.Clone(groups), schema: l.schema.Name, level: l.level.Name,
		schemaUID: []string{string(l.schema.UID)}, levelUID: []string{string(l.level.UID)},
		flow: l.flow, hash: l.hash, set: l.set, exempt: l.level.Spec.Type == flowcontrolv1.PriorityLevelEnablementExempt,
		series: seriesOf(l.level.Name, l.schema.Name),
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case l.at != c.changed.Load():
		return
	case l.at != c.at || len(c.of) >= maxClasses || c.of == nil:
		c.of, c.at = map[kind]*class{}, l.at
	}
	c.of[k] = learned
}
