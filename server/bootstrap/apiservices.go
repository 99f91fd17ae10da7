package bootstrap

import (
	"context"
	"fmt"
	"reflect"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-aggregator/pkg/controllers/autoregister"

	"github.com/rowlock-io/rowlock/schema/catalogue"
)

// onStart labels the APIServices that are made right once, when a server starts.
const onStart = "onstart"

// apiServices makes an APIService for every group version that is served here. As kube-apiserver does at its start, it
// also corrects those that were made so before, and removes them when their version is not served any more. Those whose
// label somebody took away are left alone.
func apiServices(ctx context.Context, cfg Config) error {
	services := cfg.Aggregator.ApiregistrationV1().APIServices()
	list, err := services.List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return err
	}
	want := wantedServices(cfg.Catalogue)
	g, ctx := errgroup.WithContext(ctx)
	for i := range list.Items {
		have := &list.Items[i]
		wanted := want[have.Name]
		delete(want, have.Name)
		switch {
		case have.Labels[autoregister.AutoRegisterManagedLabel] != onStart:
		case wanted == nil:
			g.Go(func() error {
				return benign(have.Name, services.Delete(ctx, have.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(have.UID))}))
			})
		case !reflect.DeepEqual(have.Spec, wanted.Spec):
			g.Go(func() error {
				have.Spec = wanted.Spec
				_, err := services.Update(ctx, have, metav1.UpdateOptions{})
				return benign(have.Name, err)
			})
		}
	}
	for _, wanted := range want {
		g.Go(func() error {
			_, err := services.Create(ctx, wanted, metav1.CreateOptions{})
			return benign(wanted.Name, err)
		})
	}
	return g.Wait()
}

// wantedServices are the APIServices of what is served here, by name.
func wantedServices(c *catalogue.Catalogue) map[string]*apiregistrationv1.APIService {
	want := map[string]*apiregistrationv1.APIService{}
	for _, info := range c.Groups() {
		for _, gv := range info.PrioritizedVersions {
			priority, ok := catalogue.PriorityOf(gv)
			if !ok || gv.Group == apiregistrationv1.GroupName || !c.Serves(gv) {
				continue
			}
			name := gv.Version + "." + gv.Group
			want[name] = &apiregistrationv1.APIService{
				ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{autoregister.AutoRegisterManagedLabel: onStart}},
				Spec: apiregistrationv1.APIServiceSpec{
					Group: gv.Group, Version: gv.Version, GroupPriorityMinimum: priority.Group, VersionPriority: priority.Version,
				},
			}
		}
	}
	return want
}

// benign drops the errors of writes that another replica made first.
func benign(name string, err error) error {
	if err == nil || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return fmt.Errorf("%s: %w", name, err)
}
