package bootstrap

import (
	"context"
	"fmt"
	"net"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/kubernetes/pkg/controlplane/controller/defaultservicecidr"
	"k8s.io/kubernetes/pkg/controlplane/controller/kubernetesservice"
	"k8s.io/kubernetes/pkg/controlplane/reconcilers"
)

// ServiceConfig describes the `kubernetes` Service, by which pods reach the server.
type ServiceConfig struct {
	IP        net.IP // cluster IP
	Advertise net.IP // where this replica is reached; nil or loopback: it is left out of the endpoints
	Port      int    // where it listens
	// Leases are those of all replicas; nil when this is the only one.
	Leases reconcilers.Leases
}

// Service keeps the `kubernetes` Service and its endpoints.
type Service struct {
	controller *kubernetesservice.Controller
}

// NewService must be called before informers start.
func NewService(cfg ServiceConfig, client kubernetes.Interface, informers informers.SharedInformerFactory) *Service {
	adapter := reconcilers.NewEndpointsAdapter(client.CoreV1(), client.DiscoveryV1())
	var endpoints reconcilers.EndpointReconciler
	switch {
	case cfg.Advertise == nil || cfg.Advertise.IsLoopback() || cfg.Advertise.IsUnspecified():
		endpoints = reconcilers.NewNoneEndpointReconciler() // endpoints may not be loopback addresses
	case cfg.Leases == nil:
		endpoints = reconcilers.NewMasterCountEndpointReconciler(1, adapter)
	default:
		endpoints = reconcilers.NewLeaseEndpointReconciler(adapter, cfg.Leases)
	}
	return &Service{controller: kubernetesservice.New(kubernetesservice.Config{
		PublicIP: cfg.Advertise, EndpointReconciler: endpoints, EndpointInterval: serviceInterval,
		ServiceIP: cfg.IP, ServicePort: 443, PublicServicePort: cfg.Port,
	}, client, informers.Core().V1().Services())}
}

func (s *Service) reconcile() error { return s.controller.UpdateKubernetesService(false) }

// Stop takes this replica out of the endpoints.
func (s *Service) Stop() { s.controller.Stop() }

// kubernetesService makes the default range of service addresses and the Service with its first address.
func kubernetesService(ctx context.Context, cfg Config) error {
	if err := serviceRange(ctx, cfg); err != nil {
		return err
	}
	// The allocator learns of the range through its informer: the first tries may come too early.
	var last error
	err := wait.PollUntilContextTimeout(ctx, 5*time.Millisecond, 30*time.Second, true, func(context.Context) (bool, error) {
		last = cfg.Service.reconcile()
		// The Service may be there from an earlier start, and the range not known yet to this one.
		return last == nil && cfg.Catalogue.HasServiceRange(), nil
	})
	if err != nil && last != nil {
		return last
	}
	return err
}

func serviceRange(ctx context.Context, cfg Config) error {
	ranges := cfg.Client.NetworkingV1().ServiceCIDRs()
	name := defaultservicecidr.DefaultServiceCIDRName
	have, err := ranges.Get(ctx, name, metav1.GetOptions{ResourceVersion: "0"})
	if apierrors.IsNotFound(err) {
		have, err = ranges.Create(ctx, &networkingv1.ServiceCIDR{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       networkingv1.ServiceCIDRSpec{CIDRs: []string{cfg.ServiceRange.String()}},
		}, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			have, err = ranges.Get(ctx, name, metav1.GetOptions{})
		}
	}
	if err != nil {
		return fmt.Errorf("default ServiceCIDR: %w", err)
	}
	if meta.FindStatusCondition(have.Status.Conditions, networkingv1.ServiceCIDRConditionReady) != nil {
		return nil
	}
	have = have.DeepCopy()
	meta.SetStatusCondition(&have.Status.Conditions, metav1.Condition{
		Type: networkingv1.ServiceCIDRConditionReady, Status: metav1.ConditionTrue,
		Message: "Kubernetes default Service CIDR is ready",
	})
	_, err = ranges.UpdateStatus(ctx, have, metav1.UpdateOptions{})
	if err != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("default ServiceCIDR: %w", err)
	}
	return nil
}
