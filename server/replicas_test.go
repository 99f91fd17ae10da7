package server_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"

	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/servertest"
	"github.com/rowlock-io/rowlock/storage"
)

// replicas starts two servers on one database, with few node ports to give.
func replicas(t *testing.T, db storage.Database) [2]*servertest.Server {
	plane := func(c *controlplane.Config) {
		c.Replicas = true
		c.NodePortRange = utilnet.PortRange{Base: 30000, Size: 20}
	}
	first := servertest.Start(t, servertest.Config{Database: db, Plane: plane})
	return [2]*servertest.Server{first, servertest.Start(t, servertest.Config{Database: db, Plane: plane, Keys: first.Keys})}
}

// both calls f on both servers at once, n times each.
func both(s [2]*servertest.Server, n int, f func(server *servertest.Server, which, i int)) {
	var wg sync.WaitGroup
	for which, server := range s {
		for i := range n {
			wg.Go(func() { f(server, which, i) })
		}
	}
	wg.Wait()
}

// TestAllocation has two replicas give out addresses and ports at the same time: none twice, none lost.
func TestAllocation(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"memory", "postgres"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := replicas(t, databases[name](t))
			t.Run("one port", func(t *testing.T) { onePort(t, s) })
			t.Run("some port", func(t *testing.T) { somePort(t, s) })
		})
	}
}

func service(name string, port int32) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Port: 80, NodePort: port}}},
	}
}

func onePort(t *testing.T, s [2]*servertest.Server) {
	var mu sync.Mutex
	won := map[string]*servertest.Server{}
	both(s, 8, func(server *servertest.Server, which, i int) {
		name := fmt.Sprintf("one-%d-%d", which, i)
		_, err := server.Client(t, servertest.Default).CoreV1().Services("default").Create(t.Context(), service(name, 30007), metav1.CreateOptions{})
		switch {
		case err == nil:
			mu.Lock()
			defer mu.Unlock()
			won[name] = server
		case !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "provided port is already allocated"):
			t.Error(err)
		}
	})
	if len(won) != 1 {
		t.Fatalf("one port was given to %v", slices.Collect(maps.Keys(won)))
	}
	for name := range won { // given back at one replica, it is free at the other
		if err := s[0].Client(t, servertest.Default).CoreV1().Services("default").Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	again := s[1].Client(t, servertest.Default).CoreV1().Services("default")
	if _, err := again.Create(t.Context(), service("again", 30007), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := again.Delete(t.Context(), "again", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// somePort asks for more ports than there are: each is given once, and the rest is refused.
func somePort(t *testing.T, s [2]*servertest.Server) {
	var mu sync.Mutex
	ports, addresses := map[int32]bool{}, map[string]bool{}
	both(s, 15, func(server *servertest.Server, which, i int) {
		made, err := server.Client(t, servertest.Default).CoreV1().Services("default").Create(t.Context(), service(fmt.Sprintf("some-%d-%d", which, i), 0), metav1.CreateOptions{})
		if err != nil {
			if !strings.Contains(err.Error(), "range is full") {
				t.Error(err)
			}
			return
		}
		mu.Lock()
		defer mu.Unlock()
		port := made.Spec.Ports[0].NodePort
		if ports[port] || addresses[made.Spec.ClusterIP] {
			t.Errorf("port %d or address %s was given twice", port, made.Spec.ClusterIP)
		}
		ports[port], addresses[made.Spec.ClusterIP] = true, true
	})
	if len(ports) != 20 {
		t.Errorf("%d ports of 20 were given", len(ports))
	}
	// What is refused keeps no address.
	list, err := s[0].Client(t, servertest.Default).NetworkingV1().IPAddresses().List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 21 { // and that of the kubernetes Service
		t.Errorf("%d addresses are taken, %v", len(list.Items), err)
	}
}
