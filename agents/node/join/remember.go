package join

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// The kubeconfig is what is known of the server; kubectl can use it, too.
const entry = "rowlock"

// recall reads what was remembered. What the operator says now comes first.
func (m *Member) recall() error {
	m.server = strings.TrimSuffix(m.cfg.Server, "/")
	config, err := clientcmd.LoadFromFile(m.path(kubeconfigFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("join: %s: %w; remove the file to have it made again", m.path(kubeconfigFile), err)
	}
	cluster := config.Clusters[entry]
	if cluster == nil {
		return nil
	}
	if m.server == "" {
		m.server = cluster.Server
	}
	if m.server == cluster.Server {
		m.known, m.serverName = true, cluster.TLSServerName
	}
	return nil
}

// remember writes what the next start needs.
func (m *Member) remember() error {
	config := api.NewConfig()
	config.Clusters[entry] = &api.Cluster{Server: m.server, TLSServerName: m.serverName, CertificateAuthority: m.path(authorityFile)}
	config.AuthInfos[entry] = &api.AuthInfo{ClientCertificate: m.path(clientFile), ClientKey: m.path(clientFile)}
	config.Contexts[entry] = &api.Context{Cluster: entry, AuthInfo: entry}
	config.CurrentContext = entry
	data, err := clientcmd.Write(*config)
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	if err := write(m.path(kubeconfigFile), data, 0o600); err != nil {
		return fmt.Errorf("join: %w", err)
	}
	return nil
}
