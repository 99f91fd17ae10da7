package main

import (
	"context"
	"net"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/kubernetes/pkg/controller/apis/config"
	"k8s.io/kubernetes/pkg/controller/certificates/authority"
	signers "k8s.io/kubernetes/pkg/controller/certificates/signer/config"
	"k8s.io/kubernetes/pkg/serviceaccount"

	"github.com/rowlock-io/rowlock/agents/controllers"
	"github.com/rowlock-io/rowlock/agents/crash"
	"github.com/rowlock-io/rowlock/agents/scheduler"
	"github.com/rowlock-io/rowlock/server/controlplane"
)

// agents are what acts on each cluster from inside this process.
// shared tells that other processes may serve the same clusters.
func (o *agentOptions) agents(services net.IPNet, crashes *crash.Handlers, shared bool) ([]controlplane.Agent, error) {
	loops, err := o.controllers.Config()
	if err != nil {
		return nil, err
	}
	loops.NodeIPAMController.ServiceCIDR = services.String()
	profiles, err := scheduler.Load(o.schedulerConfig)
	if err != nil {
		return nil, err
	}
	elected := func(_ string, a controlplane.Agent) controlplane.Agent { return a }
	if o.elects(shared) {
		if elected, err = electedAs(loops.Generic.LeaderElection); err != nil {
			return nil, err
		}
	}
	var all []controlplane.Agent
	if controllers.Some(loops) {
		all = append(all, elected(user.KubeControllerManager, controlplane.Agent{Name: "controllers", Run: func(ctx context.Context, in controlplane.Inside) error {
			cfg, err := controllerConfig(ctx, in)
			if err != nil {
				return err
			}
			cfg.Loops, cfg.Own = *loops.DeepCopy(), o.ownOf(in.Cluster)
			if in.Cluster != defaultCluster {
				hosted(&cfg.Loops)
			}
			return controllers.Run(ctx, cfg)
		}}))
	}
	if o.scheduler {
		all = append(all, elected(user.KubeScheduler, controlplane.Agent{Name: "scheduler", Run: func(ctx context.Context, in controlplane.Inside) error {
			cfg, err := schedulerConfig(ctx, in)
			if err != nil {
				return err
			}
			cfg.Scheduler = *profiles.DeepCopy()
			cfg.Crashes = crashes
			return scheduler.Run(ctx, cfg)
		}}))
	}
	return all, nil
}

// ownOf is what no node of a cluster may be certified for. The node that this process runs is one of the cluster at the root.
func (o *agentOptions) ownOf(cluster string) controllers.Own {
	own := o.own
	if o.domain != "" {
		own.Names = append(slices.Clone(own.Names), cluster+"."+o.domain)
	}
	if cluster != defaultCluster {
		own.Node = nil
	}
	return own
}

// hosted takes from a hosted cluster's loops what is about the cluster at the root. The operator's authorities cannot tell clusters apart: what
// they signed for one would be believed in another (decision 0011).
func hosted(loops *config.KubeControllerManagerConfiguration) {
	signing := &loops.CSRSigningController
	signing.ClusterSigningCertFile, signing.ClusterSigningKeyFile = "", ""
	for _, files := range []*signers.CSRSigningConfiguration{
		&signing.KubeletServingSignerConfiguration, &signing.KubeletClientSignerConfiguration,
		&signing.KubeAPIServerClientSignerConfiguration, &signing.LegacyUnknownSignerConfiguration,
	} {
		*files = signers.CSRSigningConfiguration{}
	}
	loops.SAController.RootCAFile = ""
}

func controllerConfig(ctx context.Context, in controlplane.Inside) (controllers.Config, error) {
	root := controllers.Clients{As: in.As, Root: true}
	client, err := root.Client("shared-informers")
	if err != nil {
		return controllers.Config{}, err
	}
	meta, err := metadata.NewForConfig(root.ConfigOrDie("metadata-informers"))
	if err != nil {
		return controllers.Config{}, err
	}
	tokens, err := serviceaccount.JWTTokenGenerator(serviceaccount.LegacyIssuer, in.Identity.ServiceAccountKey())
	if err != nil {
		return controllers.Config{}, err
	}
	return controllers.Config{
		As: in.As, Report: in.Report, Log: in.Log, Upstream: loopLogger(ctx, in.Log),
		Informers: in.Informers(client, controllers.Resync),
		Metadata:  metadatainformer.NewSharedInformerFactoryWithOptions(meta, controllers.Resync, metadatainformer.WithTransform(controllers.Trim)),
		Tokens:    tokens, RootCA: in.Identity.ClusterCA.Bundle(),
		Signing: &authority.CertificateAuthority{Certificate: in.Identity.ClusterCA.Certificate(), PrivateKey: in.Identity.ClusterCA.Signer()},
	}, nil
}

func schedulerConfig(ctx context.Context, in controlplane.Inside) (scheduler.Config, error) {
	config := in.As(&user.DefaultInfo{Name: user.KubeScheduler, Groups: []string{user.AllAuthenticated}})
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return scheduler.Config{}, err
	}
	dyn, err := dynamic.NewForConfig(config)
	if err != nil {
		return scheduler.Config{}, err
	}
	pods := in.Informers(client, 0)
	pods.Select(&corev1.Pod{}, fields.ParseSelectorOrDie("status.phase!=Succeeded,status.phase!=Failed"))
	return scheduler.Config{
		Client: client, Rest: config, Log: loopLogger(ctx, in.Log),
		Informers: pods,
		Dynamic:   dynamicinformer.NewFilteredDynamicSharedInformerFactory(dyn, 0, "", nil),
	}, nil
}
