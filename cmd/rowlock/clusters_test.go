package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"runtime/pprof"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/spf13/pflag"

	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/servertest"
	"github.com/rowlock-io/rowlock/storage/memory"
)

// inside are the agents that flags ask for.
func inside(t testing.TB, args ...string) []controlplane.Agent {
	t.Helper()
	var o agentOptions
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	o.addFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	_, services, err := net.ParseCIDR("10.96.0.0/16")
	if err != nil {
		t.Fatal(err)
	}
	agents, err := o.agents(*services, surviveCrashes(), false)
	if err != nil {
		t.Fatal(err)
	}
	return agents
}

// acts waits until a loop has done something.
func acts(t *testing.T, client kubernetes.Interface, namespace string) {
	t.Helper()
	if _, err := client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, "a loop of the cluster", func(ctx context.Context) (bool, error) {
		_, err := client.CoreV1().ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{})
		return err == nil, notYet(err)
	})
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestClustersComeAndGo: a cluster that nobody asks is closed with all that acts on it, CronJobs or not, and nothing of it stays in
// memory, however often it is opened again.
func TestClustersComeAndGo(t *testing.T) { //nolint:paralleltest // it counts goroutines
	s := servertest.Start(t, servertest.Config{Clusters: []string{"a"}, Idle: time.Millisecond, Plane: func(c *controlplane.Config) {
		c.Agents = inside(t)
	}})
	client := s.Client(t, "a")
	cron := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Name: "due"}, Spec: batchv1.CronJobSpec{
		Schedule: "* * * * *",
		JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: "i"}},
		}}}},
	}}
	if _, err := client.BatchV1().CronJobs("default").Create(t.Context(), cron, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	const rounds, warm = 30, 5
	var idle int
	var held uint64
	for i := range rounds {
		_, release, err := s.Clusters.Acquire(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		acts(t, client, fmt.Sprintf("round-%d", i))
		open := runtime.NumGoroutine()
		release()
		until(t, "the cluster is closed", func(context.Context) (bool, error) {
			now := runtime.NumGoroutine()
			return now < open*3/4 && (idle == 0 || now <= idle+20), nil
		})
		switch i {
		case warm:
			time.Sleep(time.Second)
			idle, held = runtime.NumGoroutine(), heap()
			t.Logf("%d goroutines with the cluster open, %d without", open, idle)
		case rounds - 1:
			if now := heap(); now > held+5<<20 {
				t.Errorf("the heap has grown from %d to %d MB", held>>20, now>>20)
			}
		}
	}
}

// BenchmarkClusters opens clusters that nobody has asked for before, and tells what each costs.
func BenchmarkClusters(b *testing.B) {
	for _, bb := range []struct {
		name  string
		flags []string
	}{{"with agents", nil}, {"without", []string{"--controllers=", "--scheduler=false"}}} {
		b.Run(bb.name, func(b *testing.B) {
			var names []string
			for i := range b.N {
				names = append(names, fmt.Sprintf("c%d", i))
			}
			db := memory.New()
			s := servertest.Start(b, servertest.Config{Database: db, Plane: func(c *controlplane.Config) { c.Agents = inside(b, bb.flags...) }})
			for _, name := range names {
				if err := db.CreateCluster(b.Context(), name); err != nil {
					b.Fatal(err)
				}
			}
			time.Sleep(3 * time.Second) // the one at the root has come to rest
			memory, goroutines := inUse(), runtime.NumGoroutine()
			var first time.Duration
			b.ResetTimer()
			for _, name := range names {
				began := time.Now()
				config := s.Config(servertest.Default, servertest.AdminToken)
				config.Host = s.URL + "/clusters/" + name
				if _, err := servertest.NewClient(b, config).CoreV1().Namespaces().List(b.Context(), metav1.ListOptions{}); err != nil {
					b.Fatal(err)
				}
				first += time.Since(began)
			}
			b.StopTimer()
			time.Sleep(5*time.Second + time.Duration(b.N)*100*time.Millisecond)
			n := float64(b.N)
			b.ReportMetric(float64(inUse()-memory)/n/(1<<20), "MB/cluster")
			b.ReportMetric(float64(runtime.NumGoroutine()-goroutines)/n, "goroutines/cluster")
			b.ReportMetric(float64(first.Milliseconds())/n, "ms-to-first-answer")
			if file := os.Getenv("PROFILE"); file != "" && bb.flags == nil {
				f, _ := os.Create(file + ".goroutine")
				_ = pprof.Lookup("goroutine").WriteTo(f, 0)
				f.Close()
				f, _ = os.Create(file + ".heap")
				_ = pprof.Lookup("heap").WriteTo(f, 0)
				f.Close()
			}
		})
	}
}

func inUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}
