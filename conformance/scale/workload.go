package scale

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

const (
	replicas      = 100 // pods of a Deployment
	perNamespace  = 10  // Deployments of a namespace
	deployWorkers = 8   // that create at once
	settings      = "settings"
)

func namespaceOf(deployment int) string { return fmt.Sprintf("scale-%d", deployment/perNamespace) }

func deployments(pods int) int { return (pods + replicas - 1) / replicas }

// prepare makes the namespaces, and in each what the pods refer to.
func prepare(ctx context.Context, client kubernetes.Interface, pods int) error {
	for i := 0; i < deployments(pods); i += perNamespace {
		ns := namespaceOf(i)
		if err := harness.CreateNamespace(ctx, client, ns); err != nil {
			return err
		}
		cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: settings}, Data: map[string]string{"log.yaml": "level: info\n"}}
		if _, err := client.CoreV1().ConfigMaps(ns).Create(ctx, cm, metav1.CreateOptions{}); err != nil {
			return err
		}
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: settings}, StringData: map[string]string{"password": "changeit"}}
		if _, err := client.CoreV1().Secrets(ns).Create(ctx, secret, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// deploy creates the Deployments, several at once, and none of them twice.
func deploy(ctx context.Context, client kubernetes.Interface, pods int) error {
	errs := make([]error, deployments(pods))
	workqueue.ParallelizeUntil(ctx, deployWorkers, len(errs), func(i int) {
		d := deployment(fmt.Sprintf("web-%d", i), min(replicas, pods-i*replicas))
		_, errs[i] = client.AppsV1().Deployments(namespaceOf(i)).Create(ctx, d, metav1.CreateOptions{})
	})
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// deployment is like those that charts of web applications make: a container with a sidecar, probes, resources, settings
// from a ConfigMap and a Secret, and a wish to be spread over nodes.
func deployment(name string, pods int) *appsv1.Deployment {
	labels := map[string]string{
		"app.kubernetes.io/name": "web", "app.kubernetes.io/instance": name, "app.kubernetes.io/version": "1.29.1",
		"app.kubernetes.io/managed-by": "Helm", "helm.sh/chart": "web-4.2.0",
	}
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{"app.kubernetes.io/name": "web", "app.kubernetes.io/instance": name}}
	probe := func(path string) *corev1.Probe {
		return &corev1.Probe{
			ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString("http")}},
			PeriodSeconds: 10, TimeoutSeconds: 3,
		}
	}
	field := func(name, path string) corev1.EnvVar {
		return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}}
	}
	resources := func(cpu, memory string) corev1.ResourceRequirements {
		return corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(memory)},
		}
	}
	locked := &corev1.SecurityContext{
		AllowPrivilegeEscalation: ptr.To(false), ReadOnlyRootFilesystem: ptr.To(true),
		Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Replicas: ptr.To(int32(pods)), //nolint:gosec // at most replicas
			Selector: selector,
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: map[string]string{
					"checksum/config": "3b1f0a7bb5d3c3f7f86bd3b2a1b6d1f8a3f4f86a59c0b9d6c5a0e2a7f1d4c8be", "prometheus.io/scrape": "true",
				}},
				Spec: corev1.PodSpec{
					SecurityContext: &corev1.PodSecurityContext{
						RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To(int64(1000)), FSGroup: ptr.To(int64(1000)),
						SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
					},
					TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{
						MaxSkew: 2, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway, LabelSelector: selector,
					}},
					Containers: []corev1.Container{
						{
							Name: "web", Image: "registry.example.com/shop/web:1.29.1",
							Args:  []string{"--config=/etc/web/log.yaml", "--listen=:8080"},
							Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}, {Name: "metrics", ContainerPort: 9090}},
							Env: []corev1.EnvVar{
								{Name: "LOG_LEVEL", Value: "info"},
								{Name: "UPSTREAM", Value: "http://catalogue.shop.svc:8080"},
								field("POD_NAME", "metadata.name"), field("POD_IP", "status.podIP"),
								{Name: "PASSWORD", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
									LocalObjectReference: corev1.LocalObjectReference{Name: settings}, Key: "password",
								}}},
							},
							Resources: resources("50m", "64Mi"), SecurityContext: locked,
							LivenessProbe: probe("/healthz"), ReadinessProbe: probe("/readyz"),
							VolumeMounts: []corev1.VolumeMount{{Name: "config", MountPath: "/etc/web"}, {Name: "tmp", MountPath: "/tmp"}},
						},
						{
							Name: "exporter", Image: "registry.example.com/shop/exporter:0.9.3",
							Ports:     []corev1.ContainerPort{{Name: "exporter", ContainerPort: 9113}},
							Resources: resources("10m", "16Mi"), SecurityContext: locked,
						},
					},
					Volumes: []corev1.Volume{
						{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: settings}}}},
						{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
					},
				},
			},
		},
	}
}
