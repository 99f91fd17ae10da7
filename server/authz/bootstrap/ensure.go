package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
	rbacv1client "k8s.io/client-go/kubernetes/typed/rbac/v1"
	"k8s.io/component-helpers/auth/rbac/reconciliation"
	"k8s.io/kubernetes/pkg/registry/rbac/validation"
)

// Reader is what a replica's cache knows. Shared objects may be returned; they are not changed.
type Reader interface {
	validation.RoleGetter
	validation.RoleBindingLister
	validation.ClusterRoleGetter
	validation.ClusterRoleBindingLister
}

// Config is what Ensure works with.
type Config struct {
	// Reader is read first. What it lacks or has too old a state of is found out by the write, which is then repeated on
	// what Client reads.
	Reader Reader
	// Client writes. It is used from many goroutines at once, so that writes share commits; it should not limit its rate.
	Client rbacv1client.RbacV1Interface
	Log    *slog.Logger // nil: nothing is logged
}

// Summary counts what Ensure did.
type Summary struct {
	Unchanged, Created, Updated, Recreated int
	Protected                              int // would have been changed, but ask not to be
}

// writers is how many objects are written at once: enough for a first start to fit in a few commits.
const writers = 64

// Ensure creates the objects of the policy that are missing, and adds what is missing from the others. When nothing is,
// it only reads from cfg.Reader. Namespaces must exist. It goes on after an error and returns all of them; calling it
// again does the rest. Replicas may do this at the same time.
func (p *Policy) Ensure(ctx context.Context, cfg Config) (Summary, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	e := &ensurer{cfg: cfg}
	bindings, err := readBindings(ctx, cfg.Reader, p.Namespaces())
	if err != nil {
		return Summary{}, fmt.Errorf("ensure default roles: %w", err)
	}
	e.bindings = bindings
	var work []task
	for _, o := range p.ClusterRoles {
		work = append(work, roleTask("clusterrole "+o.Name, reconciliation.ClusterRoleRuleOwner{ClusterRole: o}))
	}
	for _, o := range p.Roles {
		work = append(work, roleTask("role "+o.Namespace+"/"+o.Name, reconciliation.RoleRuleOwner{Role: o}))
	}
	if err := e.all(ctx, work); err != nil {
		return e.sum, fmt.Errorf("ensure default roles: %w", err)
	}
	work = nil
	for _, o := range p.ClusterRoleBindings {
		work = append(work, bindingTask("clusterrolebinding "+o.Name, reconciliation.ClusterRoleBindingAdapter{ClusterRoleBinding: o}))
	}
	for _, o := range p.RoleBindings {
		work = append(work, bindingTask("rolebinding "+o.Namespace+"/"+o.Name, reconciliation.RoleBindingAdapter{RoleBinding: o}))
	}
	if err := e.all(ctx, work); err != nil {
		return e.sum, fmt.Errorf("ensure default role bindings: %w", err)
	}
	return e.sum, nil
}

type ensurer struct {
	cfg      Config
	bindings map[objectKey]reconciliation.RoleBinding // as Config.Reader has them

	mu  sync.Mutex
	sum Summary
}

// outcome is what upstream's reconciliation of any kind of object comes to.
type outcome struct {
	op        reconciliation.ReconcileOperation
	protected bool
}

// task brings one object up to date, or, without confirm, says what there is to do.
type task struct {
	name string
	run  func(through *access, confirm bool) (outcome, error)
}

func roleTask(name string, want reconciliation.RuleOwner) task {
	return task{name, func(through *access, confirm bool) (outcome, error) {
		if !confirm && roleUnchanged(through, want) {
			return outcome{op: reconciliation.ReconcileNone}, nil
		}
		opts := reconciliation.ReconcileRoleOptions{Role: want, Client: roles{through}, Confirm: confirm}
		res, err := opts.Run()
		if err != nil {
			return outcome{}, err
		}
		return outcome{res.Operation, res.Protected}, nil
	}}
}

func bindingTask(name string, want reconciliation.RoleBinding) task {
	return task{name, func(through *access, confirm bool) (outcome, error) {
		if !confirm && bindingUnchanged(through, want) {
			return outcome{op: reconciliation.ReconcileNone}, nil
		}
		opts := reconciliation.ReconcileRoleBindingOptions{RoleBinding: want, Client: bindings{through}, Confirm: confirm}
		res, err := opts.Run()
		if err != nil {
			return outcome{}, err
		}
		return outcome{res.Operation, res.Protected}, nil
	}}
}

// all does the tasks: first those that need no write, one after the other, then the others at once.
func (e *ensurer) all(ctx context.Context, tasks []task) error {
	var errs []error
	var writes []task
	for _, t := range tasks {
		todo, err := t.run(e.access(ctx), false)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", t.name, err))
		case todo.op == reconciliation.ReconcileNone || todo.protected:
			e.count(t.name, todo)
		default:
			writes = append(writes, t)
		}
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, writers)
	for _, t := range writes {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := e.write(ctx, t); err != nil {
				e.mu.Lock()
				defer e.mu.Unlock()
				errs = append(errs, fmt.Errorf("%s: %w", t.name, err))
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// write does a task, again while somebody else gets in between or the server asks for patience.
func (e *ensurer) write(ctx context.Context, t task) error {
	through := e.access(ctx)
	var lastErr error
	backoff := wait.Backoff{Steps: 5, Duration: 10 * time.Millisecond, Factor: 4, Jitter: 0.1}
	err := wait.ExponentialBackoffWithContext(ctx, backoff, func(context.Context) (bool, error) {
		var done outcome
		if done, lastErr = t.run(through, true); lastErr == nil {
			e.count(t.name, done)
			return true, nil
		}
		if apierrors.IsConflict(lastErr) || apierrors.IsServiceUnavailable(lastErr) || apierrors.IsTooManyRequests(lastErr) {
			return false, nil
		}
		return false, lastErr
	})
	if wait.Interrupted(err) && lastErr != nil {
		return lastErr
	}
	return err
}

func (e *ensurer) count(name string, done outcome) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case done.op == reconciliation.ReconcileNone:
		e.sum.Unchanged++
		return
	case done.protected:
		e.sum.Protected++
		e.cfg.Log.Warn("Left incomplete default RBAC object alone as its annotation asks", "object", name)
		return
	case done.op == reconciliation.ReconcileCreate:
		e.sum.Created++
	case done.op == reconciliation.ReconcileUpdate:
		e.sum.Updated++
	case done.op == reconciliation.ReconcileRecreate:
		e.sum.Recreated++
	}
	e.cfg.Log.Debug("Reconciled default RBAC object", "object", name, "operation", string(done.op))
}
