package rbac

import (
	"cmp"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"
)

// bindings is what the bindings of one scope, a namespace or the cluster, grant to whom. Lists are in the order of the
// bindings. It does not change once it is built.
type bindings struct {
	err     error // of listing them: nothing else is known then
	lasting bool  // may be kept until the source changes
	users   map[string][]*grant
	groups  map[string][]*grant
}

func newBindings(size int) *bindings {
	return &bindings{lasting: true, users: make(map[string][]*grant, size), groups: make(map[string][]*grant)}
}

func (b *bindings) empty() bool { return len(b.users)+len(b.groups) == 0 }

// add files a grant under its subject, unless an earlier subject of the same binding is the same.
func (b *bindings) add(subject rbacv1.Subject, namespace string, g *grant) {
	file, name := b.users, subject.Name
	switch subject.Kind {
	case rbacv1.UserKind:
	case rbacv1.GroupKind:
		file = b.groups
	case rbacv1.ServiceAccountKind:
		// Bindings in a namespace may leave out the namespace of the accounts next to them.
		ns := cmp.Or(subject.Namespace, namespace)
		if ns == "" {
			return
		}
		name = serviceaccount.ServiceAccountUsernamePrefix + ns + serviceaccount.ServiceAccountUsernameSeparator + subject.Name
	default:
		return
	}
	list := file[name]
	if n := len(list); n > 0 && list[n-1].order == g.order {
		return
	}
	file[name] = append(list, g)
}

// visit calls yield for each binding that applies to a user, in order, with the grant of the first subject of the
// binding that is the user. It returns false when yield did.
func (b *bindings) visit(who user.Info, yield func(*grant, error) bool) bool {
	if b.err != nil {
		return yield(nil, b.err)
	}
	if b.empty() {
		return true
	}
	var space [32]*grant // most users have few bindings
	found := append(space[:0], b.users[who.GetName()]...)
	lists := min(len(found), 1)
	for _, group := range who.GetGroups() {
		if more := b.groups[group]; len(more) > 0 {
			found = append(found, more...)
			lists++
		}
	}
	if lists > 1 {
		slices.SortStableFunc(found, func(x, y *grant) int {
			return cmp.Or(cmp.Compare(x.order, y.order), cmp.Compare(x.only.position, y.only.position))
		})
	}
	last := -1
	for _, g := range found {
		if g.order == last {
			continue
		}
		last = g.order
		if !yield(g, g.err) {
			return false
		}
	}
	return true
}
