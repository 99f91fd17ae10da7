package node

import (
	"context"
	"net/netip"
	"time"

	"k8s.io/client-go/kubernetes"
	kubeletconfig "k8s.io/kubernetes/pkg/kubelet/apis/config"

	"github.com/rowlock-io/rowlock/agents/node/gc"
)

// Pulls is how images are pulled.
type Pulls struct {
	// Parallel bounds how many are pulled at a time; 0: image.DefaultParallel.
	Parallel int32
	// QPS bounds how many pulls begin in a second, Burst how many at once; 0: no bound.
	QPS   float32
	Burst int
	// Verify says which images that are on the node may be used only with credentials that could pull them; "": those that were pulled for
	// other pods. Allow are images that never need any, where Verify asks for the list.
	Verify kubeletconfig.ImagePullCredentialsVerificationPolicy
	Allow  []string
	// Providers has programs asked for credentials, which may need tokens of pods' service accounts; nil: there are none.
	Providers func(kubernetes.Interface) error
}

// Keep is how much is kept of what nobody uses any more.
type Keep struct {
	Containers gc.ContainerPolicy
	Images     gc.ImagePolicy
	Logs       gc.LogPolicy
}

// Kept is how much a kubelet keeps.
func Kept() Keep {
	var k Keep
	k.Containers, k.Images, k.Logs = gc.Defaults()
	return k
}

// Check finds what is wrong with it.
func (k Keep) Check() error {
	_, err := gc.New(gc.Config{Containers: k.Containers, Image: k.Images, Logs: k.Logs})
	return err
}

// given are the addresses that the operator named, as far as they are addresses.
func (c *Config) given() []netip.Addr {
	var all []netip.Addr
	for _, text := range c.Addresses {
		if ip, err := netip.ParseAddr(text); err == nil {
			all = append(all, ip)
		}
	}
	return all
}

// namesEvery is how often it is looked whether the node's own file about names is more than pods can be given.
const namesEvery = time.Hour

// checkNames tells the node's users of it.
func (a *Agent) checkNames(ctx context.Context) error {
	tick := time.NewTicker(namesEvery)
	defer tick.Stop()
	for {
		a.dns.Check()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
