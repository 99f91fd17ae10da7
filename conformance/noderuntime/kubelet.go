package noderuntime

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// kubeletConfig is that of a kubelet as kubeadm would have it, on a machine that may have cgroups of either version.
const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: /etc/kubernetes/ca.crt}}
authorization: {mode: Webhook}
containerRuntimeEndpoint: unix://%s
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
rotateCertificates: true
serverTLSBootstrap: true
%s`

// Kubelet installs upstream's kubelet and starts it with a kubeconfig that it joins with, as "rowlock token create -o kubeconfig" prints
// it. settings are further lines of its configuration.
func (m *Machine) Kubelet(t testing.TB, bootstrap []byte, settings string) *harness.Process {
	t.Helper()
	m.Install(t, harness.Kubelet(t))
	config, err := clientcmd.Load(bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(m.Path("/etc/kubernetes"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"bootstrap.conf": bootstrap, "kubelet.yaml": fmt.Appendf(nil, kubeletConfig, m.socket, settings),
		"ca.crt": config.Clusters[config.Contexts[config.CurrentContext].Cluster].CertificateAuthorityData,
	} {
		if err := os.WriteFile(m.Path(filepath.Join("/etc/kubernetes", name)), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return m.Start(t, "/opt/bin/kubelet", "--bootstrap-kubeconfig=/etc/kubernetes/bootstrap.conf", "--kubeconfig=/etc/kubernetes/kubelet.conf",
		"--config=/etc/kubernetes/kubelet.yaml", "--hostname-override="+m.Name)
}
