package bootstrap

import (
	"context"
	"slices"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	defaults "k8s.io/apiserver/pkg/apis/flowcontrol/bootstrap"
	"k8s.io/kubernetes/pkg/registry/flowcontrol/ensurer"
)

// flowControl makes the suggested and mandatory priority levels and flow schemas, updates those that nobody has taken
// over, and removes those that an older release made.
func flowControl(ctx context.Context, cfg Config) error {
	client := cfg.Client.FlowcontrolV1()
	lister := cfg.Informers.Flowcontrol().V1()
	levels := ensurer.NewPriorityLevelConfigurationOps(client.PriorityLevelConfigurations(), lister.PriorityLevelConfigurations().Lister())
	schemas := ensurer.NewFlowSchemaOps(client.FlowSchemas(), lister.FlowSchemas().Lister())

	suggestedLevel := ensurer.NewSuggestedEnsureStrategy[*flowcontrolv1.PriorityLevelConfiguration]()
	if err := ensurer.EnsureConfigurations(ctx, levels, defaults.SuggestedPriorityLevelConfigurations, suggestedLevel); err != nil {
		return err
	}
	suggestedSchema := ensurer.NewSuggestedEnsureStrategy[*flowcontrolv1.FlowSchema]()
	if err := ensurer.EnsureConfigurations(ctx, schemas, defaults.SuggestedFlowSchemas, suggestedSchema); err != nil {
		return err
	}
	mandatoryLevel := ensurer.NewMandatoryEnsureStrategy[*flowcontrolv1.PriorityLevelConfiguration]()
	if err := ensurer.EnsureConfigurations(ctx, levels, defaults.MandatoryPriorityLevelConfigurations, mandatoryLevel); err != nil {
		return err
	}
	mandatorySchema := ensurer.NewMandatoryEnsureStrategy[*flowcontrolv1.FlowSchema]()
	if err := ensurer.EnsureConfigurations(ctx, schemas, defaults.MandatoryFlowSchemas, mandatorySchema); err != nil {
		return err
	}
	if err := ensurer.RemoveUnwantedObjects(ctx, schemas, slices.Concat(defaults.MandatoryFlowSchemas, defaults.SuggestedFlowSchemas)); err != nil {
		return err
	}
	return ensurer.RemoveUnwantedObjects(ctx, levels, slices.Concat(defaults.MandatoryPriorityLevelConfigurations, defaults.SuggestedPriorityLevelConfigurations))
}
