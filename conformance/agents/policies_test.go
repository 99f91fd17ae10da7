package agents

var policies = group{
	"expressions are checked against the types they are about": func(f *flow) {
		f.create(`{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingAdmissionPolicy, metadata: {name: $NS}, spec: {
			matchConstraints: {resourceRules: [{apiGroups: [apps], apiVersions: [v1], operations: [CREATE], resources: [deployments]}]},
			validations: [{expression: 'object.spec.replicas > 5'}, {expression: 'object.spec.nothing == 1'}]}}`)
		f.await("validatingadmissionpolicies/$NS", "o.status.observedGeneration == 1 && o.status.typeChecking.expressionWarnings.size() == 1 && o.status.typeChecking.expressionWarnings[0].fieldRef == 'spec.validations[1].expression' && o.status.typeChecking.expressionWarnings[0].warning.contains(\"undefined field 'nothing'\")")
		f.patch("validatingadmissionpolicies/$NS", "spec: {validations: [{expression: 'object.spec.replicas > 5'}]}")
		f.await("validatingadmissionpolicies/$NS", "o.status.observedGeneration == 2 && !has(o.status.typeChecking)")
	},
	"those about custom resources too": func(f *flow) {
		f.customKind("judged", "Namespaced")
		f.create(`{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingAdmissionPolicy, metadata: {name: $NS-custom}, spec: {
			matchConstraints: {resourceRules: [{apiGroups: [$NS.example.com], apiVersions: [v1], operations: [CREATE], resources: [judgeds]}]},
			validations: [{expression: 'object.metadata.nothing == 1'}]}}`)
		f.await("validatingadmissionpolicies/$NS-custom", "o.status.observedGeneration == 1 && o.status.typeChecking.expressionWarnings[0].warning.contains(\"undefined field 'nothing'\")")
	},
}
