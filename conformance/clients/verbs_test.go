package clients_test

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/utils/ptr"
)

// eviction asks twice for the same pod: a budget forbids the first, its status allows the second.
func eviction(t *testing.T, e env) {
	pods := e.client.CoreV1().Pods(e.namespace)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Labels: map[string]string{"app": "p"}},
		Spec:       corev1.PodSpec{NodeName: "no-such-node", Containers: []corev1.Container{{Name: "c", Image: "registry.example/c:1"}}},
	}
	created, err := pods.Create(t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	created.Status.Phase = corev1.PodRunning
	created.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	if _, err := pods.UpdateStatus(t.Context(), created, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	budgets := e.client.PolicyV1().PodDisruptionBudgets(e.namespace)
	budget, err := budgets.Create(t.Context(), &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "b"},
		Spec: policyv1.PodDisruptionBudgetSpec{
			MinAvailable: ptr.To(intstr.FromInt32(1)),
			Selector:     &metav1.LabelSelector{MatchLabels: map[string]string{"app": "p"}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	evict := func() error {
		body := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: e.namespace}}
		return e.client.CoreV1().RESTClient().Post().Namespace(e.namespace).Resource("pods").Name("p").
			SubResource("eviction").Body(body).MaxRetries(0).Do(t.Context()).Error()
	}
	// A budget whose status is not computed yet forbids everything.
	if err := evict(); !apierrors.IsTooManyRequests(err) {
		t.Fatalf("the eviction gave %v, expected TooManyRequests", err)
	}
	budget.Status = policyv1.PodDisruptionBudgetStatus{
		ObservedGeneration: budget.Generation, DisruptionsAllowed: 1, CurrentHealthy: 2, DesiredHealthy: 1, ExpectedPods: 2,
	}
	if _, err := budgets.UpdateStatus(t.Context(), budget, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := evict(); err != nil {
		t.Fatalf("the eviction that the budget allows: %v", err)
	}
	got, err := pods.Get(t.Context(), "p", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got.DeletionTimestamp == nil {
		t.Error("the evicted pod is not being deleted")
	}
	budget, err = budgets.Get(t.Context(), "b", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := budget.Status.DisruptedPods["p"]; !ok || budget.Status.DisruptionsAllowed != 0 {
		t.Errorf("the budget's status does not know of the eviction: %+v", budget.Status)
	}
}

// tokenRequest asks for a token, has it reviewed, and takes the account away.
func tokenRequest(t *testing.T, e env) {
	accounts := e.client.CoreV1().ServiceAccounts(e.namespace)
	account, err := accounts.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "robot"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	issue := func(audiences ...string) string {
		request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
			Audiences: audiences, ExpirationSeconds: ptr.To[int64](3600),
		}}
		token, err := accounts.CreateToken(t.Context(), "robot", request, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if left := time.Until(token.Status.ExpirationTimestamp.Time); left < 50*time.Minute || left > 70*time.Minute {
			t.Errorf("the token lasts %v, expected an hour", left)
		}
		return token.Status.Token
	}
	review := func(token string, audiences ...string) authenticationv1.TokenReviewStatus {
		review, err := e.client.AuthenticationV1().TokenReviews().Create(t.Context(), &authenticationv1.TokenReview{
			Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: audiences},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return review.Status
	}
	plain, vault := issue(), issue("vault")
	status := review(plain)
	if !status.Authenticated || status.User.Username != "system:serviceaccount:"+e.namespace+":robot" || status.User.UID != string(account.UID) {
		t.Errorf("the review of the token says %+v", status)
	}
	if status := review(vault); status.Authenticated {
		t.Error("a token for another audience is good for the API server")
	}
	if status := review(vault, "vault", "other"); !status.Authenticated || len(status.Audiences) != 1 || status.Audiences[0] != "vault" {
		t.Errorf("the review for the audience vault says %+v", status)
	}
	if err := accounts.Delete(t.Context(), "robot", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	// A server may remember a token that was good for some seconds.
	for deadline := time.Now().Add(time.Minute); review(plain).Authenticated; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the token outlives its account")
		}
	}
}

// leaderElection has two candidates; the second leads when the first goes.
func leaderElection(t *testing.T, e env) {
	led := make(chan string, 2)
	candidate := func(ctx context.Context, name string) *leaderelection.LeaderElector {
		elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: &resourcelock.LeaseLock{
				LeaseMeta:  metav1.ObjectMeta{Name: "leader", Namespace: e.namespace},
				Client:     e.client.CoordinationV1(),
				LockConfig: resourcelock.ResourceLockConfig{Identity: name},
			},
			// Generous, for a busy machine.
			LeaseDuration: 20 * time.Second, RenewDeadline: 15 * time.Second, RetryPeriod: 100 * time.Millisecond,
			ReleaseOnCancel: true,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(context.Context) { led <- name },
				OnStoppedLeading: func() {},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		return elector
	}
	var running sync.WaitGroup
	first, stopFirst := context.WithCancel(t.Context())
	second, stopSecond := context.WithCancel(t.Context())
	defer running.Wait()
	defer stopFirst()
	defer stopSecond()
	a, b := candidate(first, "a"), candidate(second, "b")
	running.Go(func() { a.Run(first) })
	if got := <-led; got != "a" {
		t.Fatalf("%s leads, expected a", got)
	}
	running.Go(func() { b.Run(second) })
	stopFirst()
	if got := <-led; got != "b" {
		t.Fatalf("%s leads, expected b", got)
	}
	lease, err := e.client.CoordinationV1().Leases(e.namespace).Get(t.Context(), "leader", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if *lease.Spec.HolderIdentity != "b" || *lease.Spec.LeaseTransitions < 1 {
		t.Errorf("the lease says %+v", lease.Spec)
	}
}

// counter has many clients count in one object: no increment is lost.
func counter(t *testing.T, e env) {
	maps := e.client.CoreV1().ConfigMaps(e.namespace)
	if _, err := maps.Create(t.Context(), newMap("c", map[string]string{"n": "0"}), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	const workers, each = 8, 10
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for done := 0; done < each; {
				cm, err := maps.Get(t.Context(), "c", metav1.GetOptions{})
				if err != nil {
					t.Error(err)
					return
				}
				n, err := strconv.Atoi(cm.Data["n"])
				if err != nil {
					t.Error(err)
					return
				}
				cm.Data["n"] = strconv.Itoa(n + 1)
				switch _, err := maps.Update(t.Context(), cm, metav1.UpdateOptions{}); {
				case err == nil:
					done++
				case !apierrors.IsConflict(err):
					t.Error(err)
					return
				}
			}
		})
	}
	running.Wait()
	cm, err := maps.Get(t.Context(), "c", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if want := strconv.Itoa(workers * each); cm.Data["n"] != want {
		t.Errorf("the counter is at %s, expected %s", cm.Data["n"], want)
	}
}

// oneCreator has many clients create the same object: one does.
func oneCreator(t *testing.T, e env) {
	var running sync.WaitGroup
	created := make(chan int, 16)
	for i := range cap(created) {
		running.Go(func() {
			_, err := e.client.CoreV1().ConfigMaps(e.namespace).Create(t.Context(), newMap("one", nil), metav1.CreateOptions{})
			switch {
			case err == nil:
				created <- i
			case !apierrors.IsAlreadyExists(err):
				t.Error(err)
			}
		})
	}
	running.Wait()
	if len(created) != 1 {
		t.Errorf("%d clients created the object, expected 1", len(created))
	}
}

// generateName creates many objects under generated names.
func generateName(t *testing.T, e env) {
	names := map[string]bool{}
	for range 20 {
		cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "gen-"}}
		created, err := e.client.CoreV1().ConfigMaps(e.namespace).Create(t.Context(), cm, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if names[created.Name] || len(created.Name) != len("gen-")+5 {
			t.Errorf("the name %q is not a new one of the usual length", created.Name)
		}
		names[created.Name] = true
	}
}

// preconditions deletes only what is as expected.
func preconditions(t *testing.T, e env) {
	maps := e.client.CoreV1().ConfigMaps(e.namespace)
	cm, err := maps.Create(t.Context(), newMap("p", nil), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]metav1.Preconditions{
		"UID":             {UID: ptr.To(cm.UID + "x")},
		"resourceVersion": {ResourceVersion: ptr.To("1")},
	} {
		if err := maps.Delete(t.Context(), "p", metav1.DeleteOptions{Preconditions: &bad}); !apierrors.IsConflict(err) {
			t.Errorf("a delete with another %s gave %v, expected a conflict", name, err)
		}
	}
	good := metav1.Preconditions{UID: &cm.UID, ResourceVersion: &cm.ResourceVersion}
	if err := maps.Delete(t.Context(), "p", metav1.DeleteOptions{Preconditions: &good}); err != nil {
		t.Error(err)
	}
}

// deleteCollection deletes what a selector picks, and nothing else.
func deleteCollection(t *testing.T, e env) {
	maps := e.client.CoreV1().ConfigMaps(e.namespace)
	for i := range 30 {
		cm := newMap("c"+strconv.Itoa(i), nil)
		cm.Labels = map[string]string{"third": strconv.Itoa(i % 3)}
		if _, err := maps.Create(t.Context(), cm, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := maps.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "third in (0,1)"}); err != nil {
		t.Fatal(err)
	}
	list, err := maps.List(t.Context(), metav1.ListOptions{LabelSelector: "third"})
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != 10 {
		t.Errorf("%d objects are left, expected 10", len(list.Items))
	}
	for _, cm := range list.Items {
		if cm.Labels["third"] != "2" {
			t.Errorf("%s with label %v is left", cm.Name, cm.Labels)
		}
	}
}
