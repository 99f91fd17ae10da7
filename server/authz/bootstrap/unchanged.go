package bootstrap

import (
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/component-helpers/auth/rbac/reconciliation"
)

// Upstream finds out what is missing from a role by taking all rules apart, which makes up nearly all of the time that a
// start with nothing to do takes. What is in the cache as it was created needs no such thing: it is complete.

func roleUnchanged(through *access, want reconciliation.RuleOwner) bool {
	have, err := roles{through}.Get(want.GetNamespace(), want.GetName())
	through.cached = true
	return err == nil &&
		contains(have.GetLabels(), want.GetLabels()) &&
		contains(have.GetAnnotations(), want.GetAnnotations()) &&
		equality.Semantic.DeepEqual(have.GetAggregationRule(), want.GetAggregationRule()) &&
		(want.GetAggregationRule() != nil || equality.Semantic.DeepEqual(have.GetRules(), want.GetRules()))
}

func bindingUnchanged(through *access, want reconciliation.RoleBinding) bool {
	have, err := bindings{through}.Get(want.GetNamespace(), want.GetName())
	through.cached = true
	return err == nil &&
		contains(have.GetLabels(), want.GetLabels()) &&
		contains(have.GetAnnotations(), want.GetAnnotations()) &&
		have.GetRoleRef() == want.GetRoleRef() &&
		equality.Semantic.DeepEqual(have.GetSubjects(), want.GetSubjects())
}

// contains tells whether all of part is in whole.
func contains(whole, part map[string]string) bool {
	for k, v := range part {
		if got, ok := whole[k]; !ok || got != v {
			return false
		}
	}
	return true
}
