package env

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/kubelet/util"
)

const hostsPath = "/etc/hosts"

// longestHostname is what a kernel keeps, without the zero at its end.
const longestHostname = 63

// Hostname is the pod's name for itself, and the domain that it is known in; "": none.
func Hostname(pod *corev1.Pod, clusterDomain string) (hostname, domain string, err error) {
	if o := pod.Spec.HostnameOverride; o != nil {
		if problems := validation.IsDNS1123Subdomain(*o); len(problems) != 0 {
			return "", "", fmt.Errorf("pod HostnameOverride %q is not a valid DNS subdomain: %s", *o, strings.Join(problems, ";"))
		}
		hostname, err = shortened(pod, *o)
		return hostname, "", err
	}
	hostname = pod.Name
	if h := pod.Spec.Hostname; h != "" {
		if problems := validation.IsDNS1123Label(h); len(problems) != 0 {
			return "", "", fmt.Errorf("pod Hostname %q is not a valid DNS label: %s", h, strings.Join(problems, ";"))
		}
		hostname = h
	}
	if hostname, err = shortened(pod, hostname); err != nil {
		return "", "", err
	}
	if s := pod.Spec.Subdomain; s != "" {
		if problems := validation.IsDNS1123Label(s); len(problems) != 0 {
			return "", "", fmt.Errorf("pod Subdomain %q is not a valid DNS label: %s", s, strings.Join(problems, ";"))
		}
		domain = fmt.Sprintf("%s.%s.svc.%s", s, pod.Namespace, clusterDomain)
	}
	return hostname, domain, nil
}

// KernelHostname is what the pod's kernel namespace is named.
func KernelHostname(pod *corev1.Pod, clusterDomain string) (string, error) {
	hostname, domain, err := Hostname(pod, clusterDomain)
	if err != nil {
		return "", err
	}
	return util.GetNodenameForKernel(hostname, domain, pod.Spec.SetHostnameAsFQDN)
}

func shortened(pod *corev1.Pod, hostname string) (string, error) {
	if len(hostname) <= longestHostname {
		return hostname, nil
	}
	short := strings.TrimRight(hostname[:longestHostname], "-.")
	if short == "" {
		return "", fmt.Errorf("hostname for pod %q was invalid: %q", pod.Name, hostname)
	}
	return short, nil
}

// Hosts is the content of a pod's /etc/hosts: the node's for one in its network, and the pod's aliases.
func Hosts(pod *corev1.Pod, ips []string, clusterDomain string) ([]byte, error) {
	var out bytes.Buffer
	if kubecontainer.IsHostNetworkPod(pod) {
		node, err := os.ReadFile(hostsPath)
		if err != nil {
			return nil, err
		}
		out.WriteString("# Kubernetes-managed hosts file (host network).\n")
		out.Write(node)
	} else {
		hostname, domain, err := Hostname(pod, clusterDomain)
		if err != nil {
			return nil, err
		}
		out.WriteString("# Kubernetes-managed hosts file.\n" +
			"127.0.0.1\tlocalhost\n" +
			"::1\tlocalhost ip6-localhost ip6-loopback\n" +
			"fe00::0\tip6-localnet\n" +
			"fe00::0\tip6-mcastprefix\n" +
			"fe00::1\tip6-allnodes\n" +
			"fe00::2\tip6-allrouters\n")
		names := hostname
		if domain != "" {
			names = hostname + "." + domain + "\t" + hostname
		}
		for _, ip := range ips {
			fmt.Fprintf(&out, "%s\t%s\n", ip, names)
		}
	}
	if len(pod.Spec.HostAliases) > 0 {
		out.WriteString("\n# Entries added by HostAliases.\n")
	}
	for _, alias := range pod.Spec.HostAliases {
		fmt.Fprintf(&out, "%s\t%s\n", alias.IP, strings.Join(alias.Hostnames, "\t"))
	}
	return out.Bytes(), nil
}
