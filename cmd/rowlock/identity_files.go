package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
	certutil "k8s.io/client-go/util/cert"

	"github.com/rowlock-io/rowlock/server/pki"
)

// privateFile is for its owner only.
type privateFile struct {
	name, what string
	content    []byte
}

// address is the URL of the cluster's API, and whether the servers show a certificate of the cluster's own authority there; they
// do for all clusters at host names of their own, and elsewhere for the default one.
func (o *exportOptions) address() (address string, own bool, err error) {
	u, err := url.Parse(o.server)
	switch {
	case err != nil:
		return "", false, fmt.Errorf("--server: %w", err)
	case u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.User != nil:
		return "", false, fmt.Errorf("--server %q must be https://HOST:PORT", o.server)
	case o.cluster == defaultCluster, strings.HasPrefix(u.Hostname(), o.cluster+"."):
		return o.server, true, nil
	}
	return u.JoinPath("clusters", o.cluster).String(), false, nil
}

// files makes what the components need.
func (o *exportOptions) files(ctx context.Context, v *vault) ([]privateFile, error) {
	keys, err := v.keys()
	if err != nil {
		return nil, err
	}
	id, err := v.identity(ctx, keys, o.cluster)
	if err != nil {
		return nil, err
	}
	address, own, err := o.address()
	if err != nil {
		return nil, err
	}
	authority := id.ClusterCA.Bundle()
	switch {
	case o.authority != "":
		if _, err := certutil.CertsFromFile(o.authority); err != nil {
			return nil, fmt.Errorf("--certificate-authority: %w", err)
		}
		if authority, err = os.ReadFile(o.authority); err != nil {
			return nil, fmt.Errorf("--certificate-authority: %w", err)
		}
	case !own:
		root, err := v.identity(ctx, keys, defaultCluster)
		if err != nil {
			return nil, err
		}
		authority = root.ClusterCA.Bundle()
	}
	var files []privateFile
	for _, name := range slices.Compact(slices.Sorted(slices.Values(o.components))) {
		c := components[name]
		if c.keys {
			signs, err := signing(id)
			if err != nil {
				return nil, err
			}
			files = append(files, signs...)
		}
		content, until, err := o.kubeconfig(id, c.user, address, authority)
		if err != nil {
			return nil, err
		}
		files = append(files, privateFile{
			c.kubeconfig, fmt.Sprintf("kubeconfig of %s at %s, valid until %s", c.user, address, until.UTC().Format(time.RFC3339)), content,
		})
	}
	return files, nil
}

// signing are the files that sign.
func signing(id *pki.Identity) ([]privateFile, error) {
	cert, key, err := id.ClusterCA.PEM()
	if err != nil {
		return nil, err
	}
	tokens, err := id.ServiceAccountKeyPEM()
	if err != nil {
		return nil, err
	}
	return []privateFile{
		{"ca.crt", "the cluster's authority", cert},
		{"ca.key", "its key; whoever has it can become anybody in the cluster, an administrator too", key},
		{"sa.key", "the key of service accounts' tokens; whoever has it can become any service account", tokens},
	}, nil
}

// kubeconfig makes one for a user of the cluster.
func (o *exportOptions) kubeconfig(id *pki.Identity, name, server string, authority []byte) ([]byte, time.Time, error) {
	pair, err := id.ClusterCA.IssueClient(pki.Client{User: name, Lifetime: o.lifetime})
	if err != nil {
		return nil, time.Time{}, err
	}
	config := api.NewConfig()
	config.Clusters[o.cluster] = &api.Cluster{Server: server, CertificateAuthorityData: authority}
	config.AuthInfos[name] = &api.AuthInfo{ClientCertificateData: pair.CertPEM, ClientKeyData: pair.KeyPEM}
	config.CurrentContext = name + "@" + o.cluster
	config.Contexts[config.CurrentContext] = &api.Context{Cluster: o.cluster, AuthInfo: name}
	content, err := clientcmd.Write(*config)
	return content, pair.TLS.Leaf.NotAfter, err
}

// writePrivate writes files into a directory for their owner's eyes only, each whole or not at all, and returns those that are
// written.
func writePrivate(dir string, files []privateFile, overwrite bool) (written []privateFile, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%s is open to others than its owner (mode %#o): chmod 700 it, or name another directory", dir, mode)
	}
	for _, f := range files {
		path := filepath.Join(dir, f.name)
		if _, err := os.Lstat(path); err == nil && !overwrite {
			return nil, fmt.Errorf("%s is there already: --overwrite replaces it", path)
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	for _, f := range files {
		if err := writeOne(filepath.Join(dir, f.name), f.content, overwrite); err != nil {
			return written, err
		}
		written = append(written, f)
	}
	return written, nil
}

func writeOne(path string, content []byte, overwrite bool) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if gone := os.Remove(tmp.Name()); !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}()
	_, err = tmp.Write(content)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if overwrite {
		return os.Rename(tmp.Name(), path)
	}
	return os.Link(tmp.Name(), path) // fails when another has made it meanwhile
}
