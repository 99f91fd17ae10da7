package server_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/inform"
	"github.com/rowlock-io/rowlock/server/servertest"
)

// inside starts a server and returns what agents in it see.
func inside(t *testing.T) (*servertest.Server, controlplane.Inside) {
	t.Helper()
	seen := make(chan controlplane.Inside, 1)
	s := servertest.Start(t, servertest.Config{Plane: func(cfg *controlplane.Config) {
		cfg.Agents = []controlplane.Agent{{Name: "test", Run: func(ctx context.Context, in controlplane.Inside) error {
			seen <- in
			<-ctx.Done()
			return nil
		}}}
	}})
	return s, <-seen
}

func started(t *testing.T, in controlplane.Inside, client kubernetes.Interface, prepare func(inform.Factory)) inform.Factory {
	t.Helper()
	f := in.Informers(client, 0)
	prepare(f)
	ctx, stop := context.WithCancel(t.Context())
	f.StartWithContext(ctx)
	t.Cleanup(func() { stop(); f.Shutdown() })
	f.WaitForCacheSync(ctx.Done())
	return f
}

// TestStoreHasOwnWrites writes, and asks at once how far an informer's store has come, as loops do before they act on what they read.
func TestStoreHasOwnWrites(t *testing.T) {
	t.Parallel()
	_, in := inside(t)
	client, err := kubernetes.NewForConfig(in.As(&user.DefaultInfo{Name: "test", Groups: []string{user.SystemPrivilegedGroup}}))
	if err != nil {
		t.Fatal(err)
	}
	informer := started(t, in, client, func(f inform.Factory) { f.Core().V1().ConfigMaps().Informer() }).Core().V1().ConfigMaps().Informer()
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			maps := client.CoreV1().ConfigMaps("default")
			m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("m", w)}}
			m, err := maps.Create(t.Context(), m, metav1.CreateOptions{})
			for n := 0; n < 50 && err == nil; n++ {
				wrote, _ := strconv.ParseUint(m.ResourceVersion, 10, 64)
				store := informer.GetStore()
				if has, err := strconv.ParseUint(store.LastStoreSyncResourceVersion(), 10, 64); err != nil || has < wrote {
					t.Errorf("wrote %d, store has %d, %v", wrote, has, err)
				}
				obj, _, _ := store.GetByKey("default/" + m.Name)
				if got, ok := obj.(*corev1.ConfigMap); !ok || got.ResourceVersion != m.ResourceVersion {
					t.Errorf("wrote %s, read %v", m.ResourceVersion, obj)
				}
				m.Data = map[string]string{"n": strconv.Itoa(n)}
				m, err = maps.Update(t.Context(), m, metav1.UpdateOptions{})
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	writers.Wait()
}

// TestInformersEndWhereTheAPIIs changes Pods at random, by several clients at once, and compares informers that were there
// all the time, one of them of a part of the Pods only, with what the API lists at the end.
func TestInformersEndWhereTheAPIIs(t *testing.T) {
	t.Parallel()
	s, in := inside(t)
	unlimited := s.Config(servertest.Default, servertest.AdminToken)
	unlimited.QPS = -1
	client := servertest.NewClient(t, unlimited)
	running := fields.ParseSelectorOrDie("status.phase!=Succeeded,status.phase!=Failed")
	everything := started(t, in, client, func(f inform.Factory) { f.Core().V1().Pods().Informer() })
	some := started(t, in, client, func(f inform.Factory) {
		f.Select(&corev1.Pod{}, running)
		f.Core().V1().Pods().Informer()
	})
	var told sync.Map // what a handler of the narrow informer was told, by key
	handler, err := some.Core().V1().Pods().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { told.Store(obj.(*corev1.Pod).Name, obj) },
		UpdateFunc: func(_, obj any) { told.Store(obj.(*corev1.Pod).Name, obj) },
		DeleteFunc: func(obj any) {
			if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = gone.Obj
			}
			told.Delete(obj.(*corev1.Pod).Name)
		},
	})
	if err != nil || !cache.WaitForCacheSync(t.Context().Done(), handler.HasSynced) {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() { changePods(t, client, rand.New(rand.NewPCG(seed, uint64(w))), 60) })
	}
	writers.Wait()

	for name, c := range map[string]struct {
		factory inform.Factory
		field   string
	}{"everything": {everything, ""}, "running": {some, running.String()}} {
		list, err := client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{FieldSelector: c.field})
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]*corev1.Pod{}
		for i := range list.Items {
			list.Items[i].ManagedFields = nil
			want[list.Items[i].Name] = &list.Items[i]
		}
		var diff string
		if err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
			pods, err := c.factory.Core().V1().Pods().Lister().List(labels.Everything())
			got := map[string]*corev1.Pod{}
			for _, p := range pods {
				got[p.Name] = p
			}
			diff = cmp.Diff(want, got, cmpopts.EquateEmpty())
			return diff == "", err
		}); err != nil {
			t.Errorf("%s: -API +informer:\n%s", name, diff)
		}
	}
	pods, err := some.Core().V1().Pods().Lister().List(labels.Everything())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pods {
		other, err := everything.Core().V1().Pods().Lister().Pods("default").Get(p.Name)
		if err != nil || other != p {
			t.Errorf("two informers hold two objects of Pod %s (%v)", p.Name, err)
		}
		if now, _ := told.LoadAndDelete(p.Name); now != p {
			t.Errorf("the handler was not told of the last state of Pod %s", p.Name)
		}
	}
	told.Range(func(name, _ any) bool {
		t.Errorf("the handler was not told that Pod %s is gone", name)
		return true
	})
}

// changePods creates, changes, finishes and deletes Pods.
func changePods(t *testing.T, client kubernetes.Interface, random *rand.Rand, n int) {
	pods := client.CoreV1().Pods("default")
	for range n {
		name := fmt.Sprintf("p%d", random.IntN(12))
		patch := func(body, sub string) error {
			_, err := pods.Patch(t.Context(), name, "application/merge-patch+json", []byte(body), metav1.PatchOptions{}, sub)
			return err
		}
		// Others do the same to the same Pods, so everything may fail.
		switch random.IntN(5) {
		case 0, 1:
			no := false
			_, _ = pods.Create(t.Context(), &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Name: name},
				Spec:       corev1.PodSpec{AutomountServiceAccountToken: &no, Containers: []corev1.Container{{Name: "c", Image: "i"}}},
			}, metav1.CreateOptions{})
		case 2:
			_ = patch(fmt.Sprintf(`{"metadata":{"labels":{"n":"%d"}}}`, random.IntN(100)), "")
		case 3:
			phase := []string{"Running", "Succeeded", "Failed", "Pending"}[random.IntN(4)]
			_ = patch(fmt.Sprintf(`{"status":{"phase":%q}}`, phase), "status")
		case 4:
			now := int64(0)
			_ = pods.Delete(t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: &now})
		}
	}
}

// TestInformersByRequest: versions that are not the stored one, and kinds that client-go alone knows of, come by request.
func TestInformersByRequest(t *testing.T) {
	t.Parallel()
	s, in := inside(t)
	client := s.Client(t, servertest.Default)
	if _, err := client.AutoscalingV1().HorizontalPodAutoscalers("default").Create(t.Context(), autoscaler("a"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	f := started(t, in, client, func(f inform.Factory) {
		f.Autoscaling().V1().HorizontalPodAutoscalers().Informer()
		f.Autoscaling().V2().HorizontalPodAutoscalers().Informer()
	})
	one, err := f.Autoscaling().V1().HorizontalPodAutoscalers().Lister().HorizontalPodAutoscalers("default").Get("a")
	if err != nil || one.Spec.MaxReplicas != 3 {
		t.Errorf("v1: got %v, %v", one, err)
	}
	two, err := f.Autoscaling().V2().HorizontalPodAutoscalers().Lister().HorizontalPodAutoscalers("default").Get("a")
	if err != nil || two.Spec.MaxReplicas != 3 || two.ManagedFields != nil {
		t.Errorf("v2: got %v, %v", two, err)
	}
}

func autoscaler(name string) *autoscalingv1.HorizontalPodAutoscaler {
	return &autoscalingv1.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: autoscalingv1.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv1.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "d"}, MaxReplicas: 3,
		},
	}
}
