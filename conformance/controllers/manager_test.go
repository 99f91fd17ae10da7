package controllers_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/rowlock-io/rowlock/conformance/harness"
	"github.com/rowlock-io/rowlock/conformance/load"
)

const namespace = "controllers"

// copier keeps a Secret for each ConfigMap of the load, of the same name and data, and takes it away again.
type copier struct{ client.Client }

func (c *copier) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var cm corev1.ConfigMap
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: req.Name, Namespace: req.Namespace}}
	err := c.Get(ctx, req.NamespacedName, &cm)
	if apierrors.IsNotFound(err) {
		return ctrl.Result{}, client.IgnoreNotFound(c.Delete(ctx, secret))
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	_, err = controllerutil.CreateOrUpdate(ctx, c.Client, secret, func() error {
		secret.Data = map[string][]byte{}
		for k, v := range cm.Data {
			secret.Data[k] = []byte(v)
		}
		return nil
	})
	return ctrl.Result{}, err
}

// TestManager runs a manager that copies what a load writes, while the server is stopped and killed. In the end there
// is a copy of everything that is there, and of nothing else.
func TestManager(t *testing.T) {
	t.Parallel()
	harness.Each(t, func(t *testing.T, target harness.Target) {
		server := target.NewCluster(t).StartServer(t)
		harness.NewNamespace(t, server.Client(t), namespace)

		startManager(t, server)
		writes := load.Start(t, server.Client(t), load.Options{Namespace: namespace, Workers: 4})
		writes.AwaitMore(t, 100)
		for _, end := range []func(testing.TB){server.Stop, server.Kill} {
			end(t)
			server.Start(t)
			writes.AwaitMore(t, 100)
		}
		writes.Stop()
		writes.Verify(t)

		core := server.Client(t).CoreV1()
		list, err := core.ConfigMaps(namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{}
		for _, cm := range list.Items {
			want[cm.Name] = cm.Data["n"]
		}
		var diff string
		for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			secrets, err := core.Secrets(namespace).List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for _, secret := range secrets.Items {
				got[secret.Name] = string(secret.Data["n"])
			}
			if diff = cmp.Diff(want, got); diff == "" {
				return
			}
		}
		t.Errorf("the copies are not what is there (-want +copies):\n%s", diff)
	})
}

// startManager runs a manager until the end of the test. One that loses its lease while the server is away ends, as it
// should, and is started again, as its Deployment would.
func startManager(t *testing.T, server *harness.Server) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	t.Cleanup(running.Wait)
	t.Cleanup(cancel)
	config := server.Config(t)
	running.Go(func() {
		for ctx.Err() == nil {
			m, err := ctrl.NewManager(config, ctrl.Options{
				Scheme:                        scheme.Scheme,
				Cache:                         cache.Options{DefaultNamespaces: map[string]cache.Config{namespace: {}}},
				Metrics:                       metricsserver.Options{BindAddress: "0"},
				Controller:                    ctrlconfig.Controller{SkipNameValidation: ptr.To(true)}, // a second manager, after the first
				Logger:                        logr.Discard(),                                          // it says a lot while the server is away
				LeaderElection:                true,
				LeaderElectionID:              "copier",
				LeaderElectionNamespace:       namespace,
				LeaderElectionReleaseOnCancel: true,
				LeaseDuration:                 ptr.To(3 * time.Second),
				RenewDeadline:                 ptr.To(2 * time.Second),
				RetryPeriod:                   ptr.To(200 * time.Millisecond),
			})
			if err == nil {
				err = ctrl.NewControllerManagedBy(m).For(&corev1.ConfigMap{}).Owns(&corev1.Secret{}).
					Named("copier").Complete(&copier{m.GetClient()})
			}
			if err == nil {
				err = m.Start(ctx)
			}
			if err != nil && ctx.Err() == nil {
				t.Logf("the manager ended: %v", err)
				time.Sleep(100 * time.Millisecond)
			}
		}
	})
}
