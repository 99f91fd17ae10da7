package controllers

import (
	"context"
	"fmt"
	"sync"

	apiextensionsscheme "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset/scheme"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/cel/openapi/resolver"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app"
	"k8s.io/kubernetes/cmd/kube-controller-manager/names"
	"k8s.io/kubernetes/pkg/controller/validatingadmissionpolicystatus"
	"k8s.io/kubernetes/pkg/generated/openapi"
)

// policies makes the loop that checks the types in ValidatingAdmissionPolicies. Upstream's maker of it builds the schemas
// of all kinds at once, eight megabytes for the policies that most clusters do not have.
func policies(_ context.Context, inside app.ControllerContext) (app.Controller, error) {
	const name = names.ValidatingAdmissionPolicyStatusController
	discovery, err := inside.ClientBuilder.DiscoveryClient(name)
	if err != nil {
		return nil, fmt.Errorf("discovery client: %w", err)
	}
	client, err := inside.NewClient(name)
	if err != nil {
		return nil, err
	}
	schemas := lazySchemas{sync.OnceValue(func() resolver.SchemaResolver {
		return resolver.NewDefinitionsSchemaResolver(openapi.GetOpenAPIDefinitions, scheme.Scheme, apiextensionsscheme.Scheme).
			Combine(&resolver.ClientDiscoveryResolver{Discovery: discovery})
	})}
	c, err := validatingadmissionpolicystatus.NewController(
		inside.InformerFactory.Admissionregistration().V1().ValidatingAdmissionPolicies(),
		client.AdmissionregistrationV1().ValidatingAdmissionPolicies(),
		&validating.TypeChecker{SchemaResolver: schemas, RestMapper: inside.RESTMapper})
	if err != nil {
		return nil, err
	}
	return policyLoop{c, int(inside.ComponentConfig.ValidatingAdmissionPolicyStatusController.ConcurrentPolicySyncs)}, nil
}

// lazySchemas are made when the first one is asked for.
type lazySchemas struct {
	all func() resolver.SchemaResolver
}

func (l lazySchemas) ResolveSchema(gvk schema.GroupVersionKind) (*spec.Schema, error) {
	return l.all().ResolveSchema(gvk)
}

type policyLoop struct {
	*validatingadmissionpolicystatus.Controller
	workers int
}

func (policyLoop) Name() string { return names.ValidatingAdmissionPolicyStatusController }

func (p policyLoop) Run(ctx context.Context) { p.Controller.Run(ctx, p.workers) }
