package aggregation

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiregistration "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-aggregator/pkg/apis/apiregistration/v1/helper"
	"k8s.io/kube-aggregator/pkg/controllers/autoregister"
)

// The priorities of custom resources, kube-apiserver's: behind the built-in groups, and versions ordered by their names.
const (
	customGroupPriority   = 1000
	customVersionPriority = 100
)

// SetCustom says which versions custom resources are served in, all of them. Each gets an APIService, which is restored
// when somebody removes or changes it, and goes with the version.
func (a *Aggregator) SetCustom(versions []schema.GroupVersion) {
	custom := make(map[schema.GroupVersion]bool, len(versions))
	for _, gv := range versions {
		custom[gv] = true
	}
	a.mu.Lock()
	a.custom = custom
	a.mu.Unlock()
	a.poke()
}

// managed tells whether an APIService is kept for as long as its version is served.
func managed(s *apiregistration.APIService) bool {
	return s.Labels[autoregister.AutoRegisterManagedLabel] == "true"
}

// keep makes APIServices what they should be. Those without the label of autoregistration are their users' alone.
func (a *Aggregator) keep(ctx context.Context, all []*apiregistration.APIService) error {
	a.mu.Lock()
	custom := a.custom
	a.mu.Unlock()
	var errs []error
	have := make(map[schema.GroupVersion]bool, len(all))
	for _, s := range all {
		gv := schema.GroupVersion{Group: s.Spec.Group, Version: s.Spec.Version}
		have[gv] = true
		var err error
		switch {
		case s.DeletionTimestamp != nil:
		case managed(s) && custom != nil && !custom[gv]:
			err = a.remove(ctx, s)
		case managed(s) && custom[gv]:
			err = a.restore(ctx, s)
		case s.Spec.Service == nil:
			err = a.available(ctx, s)
		}
		errs = append(errs, err)
	}
	for gv := range custom {
		if !have[gv] {
			errs = append(errs, a.create(ctx, gv))
		}
	}
	return errors.Join(errs...)
}

func customService(gv schema.GroupVersion) *apiregistration.APIService {
	return &apiregistration.APIService{
		ObjectMeta: metav1.ObjectMeta{
			Name: gv.Version + "." + gv.Group, Labels: map[string]string{autoregister.AutoRegisterManagedLabel: "true"},
		},
		Spec: apiregistration.APIServiceSpec{
			Group: gv.Group, Version: gv.Version, GroupPriorityMinimum: customGroupPriority, VersionPriority: customVersionPriority,
		},
	}
}

func (a *Aggregator) create(ctx context.Context, gv schema.GroupVersion) error {
	_, err := a.cfg.Client.ApiregistrationV1().APIServices().Create(ctx, customService(gv), metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create APIService of %s: %w", gv, err)
	}
	return nil
}

func (a *Aggregator) remove(ctx context.Context, s *apiregistration.APIService) error {
	err := a.cfg.Client.ApiregistrationV1().APIServices().Delete(ctx, s.Name, metav1.DeleteOptions{
		Preconditions: metav1.NewUIDPreconditions(string(s.UID)),
	})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("delete APIService %s: %w", s.Name, err)
	}
	return nil
}

func (a *Aggregator) restore(ctx context.Context, s *apiregistration.APIService) error {
	want := customService(schema.GroupVersion{Group: s.Spec.Group, Version: s.Spec.Version}).Spec
	if s.Spec.Service == nil && s.Spec.CABundle == nil && !s.Spec.InsecureSkipTLSVerify &&
		s.Spec.GroupPriorityMinimum == want.GroupPriorityMinimum && s.Spec.VersionPriority == want.VersionPriority {
		return a.available(ctx, s)
	}
	s = s.DeepCopy()
	s.Spec = want
	_, err := a.cfg.Client.ApiregistrationV1().APIServices().Update(ctx, s, metav1.UpdateOptions{})
	return changedMeanwhile(s.Name, err)
}

// available says that an APIService without a Service is. New ones say so from the start; one that had a Service does not.
func (a *Aggregator) available(ctx context.Context, s *apiregistration.APIService) error {
	want := helper.NewLocalAvailableAPIServiceCondition()
	have := helper.GetAPIServiceConditionByType(s, want.Type)
	if have != nil && have.Status == want.Status && have.Reason == want.Reason && have.Message == want.Message {
		return nil
	}
	s = s.DeepCopy()
	helper.SetAPIServiceCondition(s, want)
	_, err := a.cfg.Client.ApiregistrationV1().APIServices().UpdateStatus(ctx, s, metav1.UpdateOptions{})
	return changedMeanwhile(s.Name, err)
}

// changedMeanwhile drops errors of writes that came too late: the next change has the APIService looked at again.
func changedMeanwhile(name string, err error) error {
	if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return fmt.Errorf("update APIService %s: %w", name, err)
}
