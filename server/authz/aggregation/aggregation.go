// Package aggregation fills ClusterRoles with the rules of those that their aggregationRule selects. Without it the roles
// view, edit and admin grant nothing.
//
// In a stock cluster kube-controller-manager does it. Here the server does, since it decides by these rules, so that a
// cluster means the same without a controller manager; one that runs beside it computes the same and finds nothing to do.
package aggregation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	applyrbacv1 "k8s.io/client-go/applyconfigurations/rbac/v1"
	clientrbacv1 "k8s.io/client-go/kubernetes/typed/rbac/v1"
	listers "k8s.io/client-go/listers/rbac/v1"
)

// Config is what roles are read from and written to.
type Config struct {
	Roles   listers.ClusterRoleLister
	Client  clientrbacv1.ClusterRolesGetter
	Changed <-chan struct{} // tells that ClusterRoles changed; several changes may be one
	Log     *slog.Logger
}

// manager owns the rules, by the name that the controller has everywhere.
const manager = "clusterrole-aggregation-controller"

// Bounds of the wait after a failure.
const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// Run keeps the roles filled until ctx ends.
func Run(ctx context.Context, cfg Config) error {
	var retry <-chan time.Time
	wait := firstRetry
	for {
		select {
		case <-cfg.Changed:
		case <-retry:
		case <-ctx.Done():
			return nil
		}
		if err := cfg.all(ctx); err != nil && ctx.Err() == nil {
			cfg.Log.Warn("Aggregation of ClusterRoles failed and is tried again", "err", err, "after", wait)
			retry, wait = time.After(wait), min(2*wait, lastRetry)
			continue
		}
		retry, wait = nil, firstRetry
	}
}

// all brings every role up to date. What one gains may be selected by another: the change of the first wakes Run again.
func (cfg Config) all(ctx context.Context) error {
	roles, err := cfg.Roles.List(labels.Everything())
	if err != nil {
		return err
	}
	slices.SortFunc(roles, func(a, b *rbacv1.ClusterRole) int { return strings.Compare(a.Name, b.Name) })
	var errs []error
	for _, role := range roles {
		if role.AggregationRule == nil {
			continue
		}
		if err := cfg.fill(ctx, role, roles); err != nil {
			errs = append(errs, fmt.Errorf("ClusterRole %s: %w", role.Name, err))
		}
	}
	return errors.Join(errs...)
}

func (cfg Config) fill(ctx context.Context, role *rbacv1.ClusterRole, sorted []*rbacv1.ClusterRole) error {
	rules, err := rulesOf(role, sorted)
	if err != nil || equality.Semantic.DeepEqual(rules, role.Rules) {
		return err
	}
	apply := applyrbacv1.ClusterRole(role.Name)
	for _, r := range rules {
		apply.Rules = append(apply.Rules, applyrbacv1.PolicyRuleApplyConfiguration{
			Verbs: r.Verbs, APIGroups: r.APIGroups, Resources: r.Resources, ResourceNames: r.ResourceNames, NonResourceURLs: r.NonResourceURLs,
		})
	}
	_, err = cfg.Client.ClusterRoles().Apply(ctx, apply, metav1.ApplyOptions{FieldManager: manager, Force: true})
	return err
}

// rulesOf are the rules that a role is to have: those of all others that a selector of it selects, each once, selector by
// selector and role by role.
func rulesOf(role *rbacv1.ClusterRole, sorted []*rbacv1.ClusterRole) ([]rbacv1.PolicyRule, error) {
	rules := []rbacv1.PolicyRule{}
	for _, s := range role.AggregationRule.ClusterRoleSelectors {
		selector, err := metav1.LabelSelectorAsSelector(&s)
		if err != nil {
			return nil, err
		}
		for _, other := range sorted {
			if other.Name == role.Name || !selector.Matches(labels.Set(other.Labels)) {
				continue
			}
			for _, rule := range other.Rules {
				if !slices.ContainsFunc(rules, func(r rbacv1.PolicyRule) bool { return equality.Semantic.DeepEqual(r, rule) }) {
					rules = append(rules, rule)
				}
			}
		}
	}
	return rules, nil
}
