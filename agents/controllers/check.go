package controllers

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"

	certutil "k8s.io/client-go/util/cert"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app"
	"k8s.io/kubernetes/pkg/controller/apis/config"
	signing "k8s.io/kubernetes/pkg/controller/certificates/signer/config"
	"k8s.io/kubernetes/pkg/volume"
	netutils "k8s.io/utils/net"
)

// check finds before anything starts what loops would find when they are made, and says of which flag.
func check(c config.KubeControllerManagerConfiguration) error {
	errs := checkSigners(c.CSRSigningController)
	if file := c.SAController.RootCAFile; file != "" {
		if _, err := certutil.CertsFromFile(file); err != nil {
			errs = append(errs, fmt.Errorf("--root-ca-file: %w", err))
		}
	}
	templates := c.PersistentVolumeBinderController.VolumeConfiguration.PersistentVolumeRecyclerConfiguration
	for flag, file := range map[string]string{
		"--pv-recycler-pod-template-filepath-hostpath": templates.PodTemplateFilePathHostPath,
		"--pv-recycler-pod-template-filepath-nfs":      templates.PodTemplateFilePathNFS,
	} {
		if err := app.AttemptToLoadRecycler(file, &volume.VolumeConfig{}); err != nil {
			errs = append(errs, fmt.Errorf("%s=%s: %w", flag, file, err))
		}
	}
	if c.KubeCloudShared.AllocateNodeCIDRs {
		errs = append(errs, checkRanges(c)...)
	}
	return errors.Join(errs...)
}

// signers tells whether certificates are signed with files of the operator's.
func signers(c signing.CSRSigningControllerConfiguration) bool {
	for _, p := range pairs(c) {
		if p.cert != "" || p.key != "" {
			return true
		}
	}
	return false
}

type pair struct{ flag, cert, key string }

func pairs(c signing.CSRSigningControllerConfiguration) []pair {
	return []pair{
		{"cluster-signing", c.ClusterSigningCertFile, c.ClusterSigningKeyFile},
		{"cluster-signing-kubelet-serving", c.KubeletServingSignerConfiguration.CertFile, c.KubeletServingSignerConfiguration.KeyFile},
		{"cluster-signing-kubelet-client", c.KubeletClientSignerConfiguration.CertFile, c.KubeletClientSignerConfiguration.KeyFile},
		{"cluster-signing-kube-apiserver-client", c.KubeAPIServerClientSignerConfiguration.CertFile, c.KubeAPIServerClientSignerConfiguration.KeyFile},
		{"cluster-signing-legacy-unknown", c.LegacyUnknownSignerConfiguration.CertFile, c.LegacyUnknownSignerConfiguration.KeyFile},
	}
}

func checkSigners(c signing.CSRSigningControllerConfiguration) (errs []error) {
	for _, p := range pairs(c) {
		switch {
		case p.cert == "" && p.key == "":
			continue
		case p.cert == "" || p.key == "":
			errs = append(errs, fmt.Errorf("--%s-cert-file and --%s-key-file must be given together", p.flag, p.flag))
			continue
		}
		said := fmt.Sprintf("--%s-cert-file=%s, --%s-key-file=%s", p.flag, p.cert, p.flag, p.key)
		if _, err := tls.LoadX509KeyPair(p.cert, p.key); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", said, err))
			continue
		}
		if certs, err := certutil.CertsFromFile(p.cert); err != nil || len(certs) != 1 {
			errs = append(errs, fmt.Errorf("%s: expected 1 certificate, found %d", said, len(certs)))
		}
	}
	return errs
}

// checkRanges is about the addresses that nodes are given.
func checkRanges(c config.KubeControllerManagerConfiguration) []error {
	ranges, err := netutils.ParseCIDRs(strings.Split(strings.TrimSpace(c.KubeCloudShared.ClusterCIDR), ","))
	if err != nil {
		return []error{fmt.Errorf("--allocate-node-cidrs needs --cluster-cidr: %w", err)}
	}
	both, err := netutils.IsDualStackCIDRs(ranges)
	if err != nil || len(ranges) > 2 || len(ranges) == 2 && !both {
		return []error{fmt.Errorf("--cluster-cidr=%s: expected one range, or two of different IP families", c.KubeCloudShared.ClusterCIDR)}
	}
	n := c.NodeIPAMController
	return checkMasks(n.NodeCIDRMaskSize, n.NodeCIDRMaskSizeIPv4, n.NodeCIDRMaskSizeIPv6, ranges)
}

func checkMasks(whole, v4, v6 int32, ranges []*net.IPNet) (errs []error) {
	refuse := func(flag string, size int32, why string) {
		if size != 0 {
			errs = append(errs, fmt.Errorf("usage of --%s is not allowed %s", flag, why))
		}
	}
	switch {
	case len(ranges) > 1:
		refuse("node-cidr-mask-size", whole, "with dual-stack clusters")
	case whole != 0:
		refuse("node-cidr-mask-size-ipv4", v4, "if --node-cidr-mask-size is set")
		refuse("node-cidr-mask-size-ipv6", v6, "if --node-cidr-mask-size is set")
	case netutils.IsIPv6CIDR(ranges[0]):
		refuse("node-cidr-mask-size-ipv4", v4, "for a single-stack IPv6 cluster")
	default:
		refuse("node-cidr-mask-size-ipv6", v6, "for a single-stack IPv4 cluster")
	}
	return errs
}
