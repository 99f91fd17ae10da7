package election_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"
)

const (
	namespace = "work"
	period    = 700 * time.Millisecond // between two objects
)

var containers = corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}

func template(name string, restart corev1.RestartPolicy) corev1.PodTemplateSpec {
	spec := containers
	spec.RestartPolicy = restart
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": name}}, Spec: spec}
}

func newDeployment(name string, replicas int32) *appsv1.Deployment {
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.DeploymentSpec{
		Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}},
		Template: template(name, corev1.RestartPolicyAlways),
	}}
}

// work makes Deployments and Jobs all the time, and knows what there must be of each: pods by the name of their owner.
type work struct {
	client      kubernetes.Interface
	stop        func()
	mu          sync.Mutex
	deployments map[string]int
	jobs        map[string]int
}

// startWork starts with CronJobs, of which there are three that are due each minute.
func startWork(t *testing.T, client kubernetes.Interface, random *rand.Rand) *work {
	t.Helper()
	for i := range 3 {
		job := batchv1.JobSpec{Template: template("cron", corev1.RestartPolicyNever)}
		cron := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("cron-%d", i)}, Spec: batchv1.CronJobSpec{
			Schedule: "* * * * *", JobTemplate: batchv1.JobTemplateSpec{Spec: job}, SuccessfulJobsHistoryLimit: ptr.To[int32](1000),
		}}
		if _, err := client.BatchV1().CronJobs(namespace).Create(t.Context(), cron, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	w := &work{client: client, deployments: map[string]int{}, jobs: map[string]int{}}
	var running sync.WaitGroup
	w.stop = func() { cancel(); running.Wait() }
	t.Cleanup(w.stop)
	running.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			n := 1 + random.IntN(3)
			if i%2 == 0 {
				w.deploy(ctx, fmt.Sprintf("deployment-%d", i), n)
			} else {
				w.job(ctx, fmt.Sprintf("job-%d", i), n)
			}
			select {
			case <-time.After(period):
			case <-ctx.Done():
			}
		}
	})
	return w
}

// made makes one object, trying until it is known to be there.
func (w *work) made(ctx context.Context, create func(context.Context) error) bool {
	for ctx.Err() == nil {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := create(attempt)
		cancel()
		if err == nil || apierrors.IsAlreadyExists(err) {
			return true
		}
		time.Sleep(50 * time.Millisecond)
	}
	return false
}

func (w *work) deploy(ctx context.Context, name string, replicas int) bool {
	made := w.made(ctx, func(ctx context.Context) error {
		_, err := w.client.AppsV1().Deployments(namespace).Create(ctx, newDeployment(name, int32(replicas)), metav1.CreateOptions{})
		return err
	})
	if made {
		w.mu.Lock()
		w.deployments[name] = replicas
		w.mu.Unlock()
	}
	return made
}

func (w *work) job(ctx context.Context, name string, completions int) {
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: batchv1.JobSpec{
		Completions: ptr.To(int32(completions)), Parallelism: ptr.To[int32](2), Template: template(name, corev1.RestartPolicyNever),
	}}
	made := w.made(ctx, func(ctx context.Context) error {
		_, err := w.client.BatchV1().Jobs(namespace).Create(ctx, job, metav1.CreateOptions{})
		return err
	})
	if made {
		w.mu.Lock()
		w.jobs[name] = completions
		w.mu.Unlock()
	}
}

// unfinished says what is still to be done; empty: nothing.
func (w *work) unfinished(ctx context.Context) (string, error) {
	deployments, err := w.client.AppsV1().Deployments(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	for _, d := range deployments.Items {
		if d.Status.AvailableReplicas != *d.Spec.Replicas || d.Status.Replicas != *d.Spec.Replicas || d.Status.ObservedGeneration != d.Generation {
			return fmt.Sprintf("Deployment %s wants %d: %+v", d.Name, *d.Spec.Replicas, d.Status), nil
		}
	}
	jobs, err := w.client.BatchV1().Jobs(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	for _, j := range jobs.Items {
		if j.Status.CompletionTime == nil {
			return fmt.Sprintf("Job %s wants %d: %+v", j.Name, *j.Spec.Completions, j.Status), nil
		}
	}
	return "", nil
}
