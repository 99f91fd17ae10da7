package controllers

import (
	"context"
	"fmt"
	"net/http"

	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Clients makes clients of a server in the same process, which takes a caller's word for who it is. It implements
// clientbuilder.ControllerClientBuilder.
type Clients struct {
	As func(user.Info) *rest.Config
	// Root makes clients that may do everything; otherwise each is the service account kube-system/<name>, with the
	// rights that RBAC's default roles give it.
	Root bool
	// RootCA is what the clients' server is trusted by, PEM. Of the loops' business it is where it is published.
	RootCA []byte

	known *known // nil: each client discovers by itself
}

func (c Clients) root() Clients { return Clients{As: c.As, Root: true} }

// fenced makes clients whose requests fail when ctx has ended: what is left of a loop that did not stop does nothing beside
// its successor.
func fenced(ctx context.Context, as func(user.Info) *rest.Config) func(user.Info) *rest.Config {
	return func(who user.Info) *rest.Config {
		config := as(who)
		config.Wrap(func(next http.RoundTripper) http.RoundTripper { return fence{ctx, next} })
		return config
	}
}

type fence struct {
	ctx  context.Context
	next http.RoundTripper
}

func (f fence) RoundTrip(req *http.Request) (*http.Response, error) {
	if f.ctx.Err() == nil {
		return f.next.RoundTrip(req)
	}
	if req.Body != nil {
		_ = req.Body.Close()
	}
	return nil, fmt.Errorf("the client's owner has stopped: %w", context.Canceled)
}

// publisher is who asks for a configuration for nothing but the authority in it.
const publisher = "root-ca-cert-publisher"

// Config implements clientbuilder.ControllerClientBuilder.
func (c Clients) Config(name string) (*rest.Config, error) {
	config := c.ConfigOrDie(name)
	if name == publisher {
		config.CAData = c.RootCA // no client could be made with it: there is no TLS
	}
	return config, nil
}

// ConfigOrDie implements clientbuilder.ControllerClientBuilder. It never dies.
func (c Clients) ConfigOrDie(name string) *rest.Config {
	var who user.Info = &user.DefaultInfo{Name: user.KubeControllerManager, Groups: []string{user.SystemPrivilegedGroup, user.AllAuthenticated}}
	if !c.Root {
		who = &user.DefaultInfo{
			Name:   serviceaccount.MakeUsername("kube-system", name),
			Groups: append(serviceaccount.MakeGroupNames("kube-system"), user.AllAuthenticated),
		}
	}
	config := c.As(who)
	config.UserAgent += "/" + name
	return config
}

// Client implements clientbuilder.ControllerClientBuilder.
func (c Clients) Client(name string) (kubernetes.Interface, error) {
	return kubernetes.NewForConfig(c.ConfigOrDie(name))
}

// ClientOrDie implements clientbuilder.ControllerClientBuilder.
func (c Clients) ClientOrDie(name string) kubernetes.Interface {
	return kubernetes.NewForConfigOrDie(c.ConfigOrDie(name))
}

// DiscoveryClient implements clientbuilder.ControllerClientBuilder.
func (c Clients) DiscoveryClient(name string) (discovery.DiscoveryInterface, error) {
	if c.known != nil {
		return c.known, nil
	}
	return discovery.NewDiscoveryClientForConfig(c.ConfigOrDie(name))
}

// DiscoveryClientOrDie implements clientbuilder.ControllerClientBuilder.
func (c Clients) DiscoveryClientOrDie(name string) discovery.DiscoveryInterface {
	if c.known != nil {
		return c.known
	}
	return discovery.NewDiscoveryClientForConfigOrDie(c.ConfigOrDie(name))
}
