package kubeconfig

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"reflect"

	"k8s.io/client-go/tools/clientcmd/api"
)

// pickName returns the first name under which there is nothing yet, or only what was written for this cluster before.
func (e Entry) pickName(config *api.Config, others []*api.Config) string {
	for n := 1; ; n++ {
		name := e.Name
		if n > 1 {
			name = fmt.Sprintf("%s-%d", e.Name, n)
		}
		if e.owns(config, name) && !taken(others, name) {
			return name
		}
	}
}

func taken(configs []*api.Config, name string) bool {
	for _, c := range configs {
		if c.Contexts[name] != nil || c.Clusters[name] != nil || c.AuthInfos[name] != nil {
			return true
		}
	}
	return false
}

// owns tells whether all that goes by a name may be replaced.
func (e Entry) owns(config *api.Config, name string) bool {
	cluster, context, user := config.Clusters[name], config.Contexts[name], config.AuthInfos[name]
	// The address is ours now, whatever was there before; and whatever the address was, the authority is ours.
	if cluster != nil && cluster.Server != e.Server && !samePEM(cluster.CertificateAuthorityData, e.CA) {
		return false
	}
	if context != nil && (context.Cluster != name || context.AuthInfo != name) {
		return false
	}
	if user == nil {
		return true
	}
	together := cluster != nil && context != nil
	return certificateOnly(user) && (together || issuedBy(user.ClientCertificateData, e.CA))
}

// certificateOnly tells whether a user is one as we write it.
func certificateOnly(user *api.AuthInfo) bool {
	rest := user.DeepCopy()
	rest.LocationOfOrigin, rest.ClientCertificateData, rest.ClientKeyData, rest.Extensions = "", nil, nil, nil
	return len(user.ClientCertificateData) > 0 && reflect.DeepEqual(*rest, api.AuthInfo{})
}

func samePEM(a, b []byte) bool {
	return len(a) > 0 && bytes.Equal(bytes.TrimSpace(a), bytes.TrimSpace(b))
}

func issuedBy(cert, ca []byte) bool {
	block, _ := pem.Decode(cert)
	if block == nil {
		return false
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return false
	}
	for block, ca := pem.Decode(ca); block != nil; block, ca = pem.Decode(ca) {
		if parent, err := x509.ParseCertificate(block.Bytes); err == nil && leaf.CheckSignatureFrom(parent) == nil {
			return true
		}
	}
	return false
}

// put writes the entry under a name. What users may have added to it, such as the context's namespace or a proxy, stays.
func (e Entry) put(config *api.Config, name string) {
	cluster := config.Clusters[name]
	if cluster == nil {
		cluster = api.NewCluster()
		config.Clusters[name] = cluster
	}
	cluster.Server = e.Server
	cluster.CertificateAuthority, cluster.CertificateAuthorityData = "", e.CA
	cluster.InsecureSkipTLSVerify = false
	switch {
	case e.Own:
		cluster.TLSServerName = OwnName
	case cluster.TLSServerName == OwnName:
		cluster.TLSServerName = ""
	}

	user := config.AuthInfos[name]
	if user == nil {
		user = api.NewAuthInfo()
		config.AuthInfos[name] = user
	}
	user.ClientCertificateData, user.ClientKeyData = e.Cert, e.Key

	context := config.Contexts[name]
	if context == nil {
		context = api.NewContext()
		config.Contexts[name] = context
	}
	context.Cluster, context.AuthInfo = name, name
}
