package bootstrap

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-aggregator/pkg/controllers/autoregister"

	"github.com/rowlock-io/rowlock/schema/catalogue"
)

// apiServices makes an APIService for every group version that is served here.
func apiServices(ctx context.Context, cfg Config) error {
	services := cfg.Aggregator.ApiregistrationV1().APIServices()
	have := map[string]bool{}
	list, err := services.List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return err
	}
	for i := range list.Items {
		have[list.Items[i].Name] = true
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, info := range cfg.Catalogue.Groups() {
		for _, gv := range info.PrioritizedVersions {
			priority, ok := catalogue.PriorityOf(gv)
			name := gv.Version + "." + gv.Group
			if !ok || have[name] || gv.Group == apiregistrationv1.GroupName || !cfg.Catalogue.Serves(gv) {
				continue
			}
			g.Go(func() error {
				_, err := services.Create(ctx, &apiregistrationv1.APIService{
					ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{autoregister.AutoRegisterManagedLabel: "onstart"}},
					Spec: apiregistrationv1.APIServiceSpec{
						Group: gv.Group, Version: gv.Version, GroupPriorityMinimum: priority.Group, VersionPriority: priority.Version,
					},
				}, metav1.CreateOptions{})
				if err != nil && !apierrors.IsAlreadyExists(err) {
					return fmt.Errorf("%s: %w", name, err)
				}
				return nil
			})
		}
	}
	return g.Wait()
}
