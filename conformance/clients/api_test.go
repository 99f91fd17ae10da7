package clients_test

import (
	"testing"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// env is what a test of one kind of client gets: a server shared with the others, and a namespace of its own.
type env struct {
	server    *harness.Server
	config    *rest.Config
	client    kubernetes.Interface
	namespace string
}

// TestAPI runs the tests that share a server.
func TestAPI(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*testing.T, env){
		"dynamic":         dynamicClient,
		"metadata":        metadataClient,
		"encodings":       encodings,
		"apply":           applyConfigurations,
		"eviction":        eviction,
		"token":           tokenRequest,
		"leader-election": leaderElection,
		"watch-old":       watchOld,
		"watch-list":      watchList,
		"pages":           pages,
		"exact":           exactVersion,
		"counter":         counter,
		"one-creator":     oneCreator,
		"generate-name":   generateName,
		"preconditions":   preconditions,
		"collection":      deleteCollection,
	}
	harness.Each(t, func(t *testing.T, target harness.Target) {
		server := target.NewCluster(t).StartServer(t)
		for name, test := range tests {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				e := env{server: server, config: server.Config(t), client: server.Client(t), namespace: name}
				harness.NewNamespace(t, e.client, name)
				test(t, e)
			})
		}
	})
}
