package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
	tokenapi "k8s.io/cluster-bootstrap/token/api"

	"github.com/rowlock-io/rowlock/server/pki"
)

// clusterAccess is how a command reaches a running server as an administrator: by a kubeconfig, or by what rowlock up keeps in its data
// directory.
type clusterAccess struct {
	kubeconfig, context, dataDir string
	said                         func() bool // --data-dir was given
}

func (a *clusterAccess) addFlags(fs *pflag.FlagSet) {
	fs.StringVar(&a.kubeconfig, "kubeconfig", "", "kubeconfig of an administrator; empty: where kubectl looks, and then the data directory of rowlock up")
	fs.StringVar(&a.context, "context", "", "context of the kubeconfig; empty: the current one")
	fs.StringVar(&a.dataDir, "data-dir", defaultDataDir(), "data directory of a running rowlock up, in place of a kubeconfig")
	dir := fs.Lookup("data-dir")
	a.said = func() bool { return dir.Changed }
}

// localServer is where rowlock up listens unless it is told otherwise.
const localServer = "https://127.0.0.1:6443"

// adminLifetime is how long the certificate is good that a command makes for itself.
const adminLifetime = time.Hour

func (a *clusterAccess) client(ctx context.Context) (*rest.Config, kubernetes.Interface, error) {
	config, err := a.config(ctx)
	if err != nil {
		return nil, nil, err
	}
	config.UserAgent = "rowlock"
	client, err := kubernetes.NewForConfig(config)
	return config, client, err
}

func (a *clusterAccess) config(ctx context.Context) (*rest.Config, error) {
	if a.said() {
		if a.kubeconfig != "" || a.context != "" {
			return nil, errors.New("only one of --kubeconfig, --context and --data-dir may be given")
		}
		return a.inside(ctx)
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = a.kubeconfig
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: a.context}).ClientConfig()
	if err == nil {
		return config, nil
	}
	if clientcmd.IsEmptyConfig(err) && a.kubeconfig == "" && a.context == "" {
		if _, missing := os.Stat(filepath.Join(a.dataDir, "rowlock.db")); missing == nil {
			return a.inside(ctx)
		}
	}
	return nil, fmt.Errorf("--kubeconfig: %w", err)
}

// inside makes an administrator's certificate by what is in the data directory: whoever may read that is one anyway.
func (a *clusterAccess) inside(ctx context.Context) (*rest.Config, error) {
	v := vault{DataDir: a.dataDir}
	keys, err := v.keys()
	if err != nil {
		return nil, err
	}
	id, err := v.identity(ctx, keys, defaultCluster)
	if err != nil {
		return nil, fmt.Errorf("--data-dir: %w", err)
	}
	admin := pki.Admin()
	admin.Lifetime = adminLifetime
	pair, err := id.ClusterCA.IssueClient(admin)
	if err != nil {
		return nil, err
	}
	return &rest.Config{Host: localServer, TLSClientConfig: rest.TLSClientConfig{
		CAData: id.ClusterCA.Bundle(), CertData: pair.CertPEM, KeyData: pair.KeyPEM,
	}}, nil
}

// authorityOf is the cluster's, PEM, as machines that join will be told.
func authorityOf(ctx context.Context, config *rest.Config, client kubernetes.Interface) ([]byte, error) {
	info, err := client.CoreV1().ConfigMaps(metav1.NamespacePublic).Get(ctx, tokenapi.ConfigMapClusterInfo, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, err
	}
	if err == nil {
		published, err := clientcmd.Load([]byte(info.Data[tokenapi.KubeConfigKey]))
		if err != nil {
			return nil, fmt.Errorf("%s/%s: %w", metav1.NamespacePublic, tokenapi.ConfigMapClusterInfo, err)
		}
		for _, c := range published.Clusters {
			if len(c.CertificateAuthorityData) > 0 {
				return c.CertificateAuthorityData, nil
			}
		}
	}
	config = rest.CopyConfig(config)
	if err := rest.LoadTLSFiles(config); err != nil {
		return nil, err
	}
	if len(config.CAData) == 0 {
		return nil, errors.New("neither kube-public/cluster-info nor the kubeconfig names the cluster's authority")
	}
	return config.CAData, nil
}

// shown is the authority of the certificate that a server shows to who does not ask for another: at /clusters/NAME that of the cluster at the
// root, by which the administrator has just verified it. Stock kubelets ask for no other; they do not keep tls-server-name.
func shown(config *rest.Config, server string, authority []byte) ([]byte, error) {
	if u, err := url.Parse(server); err != nil || !strings.HasPrefix(u.Path, "/clusters/") {
		return authority, nil
	}
	config = rest.CopyConfig(config)
	if err := rest.LoadTLSFiles(config); err != nil {
		return nil, err
	}
	if len(config.CAData) == 0 || config.ServerName != "" {
		return authority, nil
	}
	return config.CAData, nil
}

func isLoopback(server string) bool {
	u, err := url.Parse(server)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && ip.IsLoopback()
}

// advertised is where a server says that it is reached; one that listens on loopback only says nothing.
func advertised(ctx context.Context, client kubernetes.Interface, otherwise string) string {
	found, err := client.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault).Get(ctx, "kubernetes", metav1.GetOptions{})
	if err != nil || len(found.Ports) == 0 || found.Ports[0].Port == nil {
		return otherwise
	}
	for _, e := range found.Endpoints {
		if u, err := url.Parse(otherwise); err == nil && len(e.Addresses) > 0 { // its path says which cluster it is
			u.Host = net.JoinHostPort(e.Addresses[0], strconv.Itoa(int(*found.Ports[0].Port)))
			return u.String()
		}
	}
	return otherwise
}

// bootstrapKubeconfig is that with which a kubelet asks for its first certificate.
func bootstrapKubeconfig(server, serverName string, authority []byte, token string) ([]byte, error) {
	const name = "rowlock"
	config := api.NewConfig()
	config.Clusters[name] = &api.Cluster{Server: server, TLSServerName: serverName, CertificateAuthorityData: authority}
	config.AuthInfos[name] = &api.AuthInfo{Token: token}
	config.Contexts[name] = &api.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name
	return clientcmd.Write(*config)
}
