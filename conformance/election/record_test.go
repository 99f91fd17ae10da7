package election_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"
)

// revision is the number of a resourceVersion, which counts what was written in the cluster.
func revision(version string) uint64 {
	r, err := strconv.ParseUint(version, 10, 64)
	if err != nil {
		panic(err) // it is not a rowlock
	}
	return r
}

// journal is what happened to Pods and election Leases, as it was watched.
type journal struct {
	factories []informers.SharedInformerFactory

	mu          sync.Mutex
	replicaSets map[string]int // pods that there ever were, by the name of the Deployment
	jobs        map[string]int
	nodes       map[string]string // by UID
	bound       bindings
	terms       map[string][]term // by the name of the Lease
	faults      []string
}

// startJournal watches until the test ends.
func startJournal(t *testing.T, client kubernetes.Interface) *journal {
	t.Helper()
	j := &journal{replicaSets: map[string]int{}, jobs: map[string]int{}, nodes: map[string]string{}, bound: bindings{}, terms: map[string][]term{}}
	ctx, cancel := context.WithCancel(t.Context())
	hear := func(namespace string, informer func(informers.SharedInformerFactory) cache.SharedIndexInformer, f func(any, bool)) {
		factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace))
		heard, err := informer(factory).AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: func(obj any) { f(obj, true) }, UpdateFunc: func(_, obj any) { f(obj, false) },
		})
		if err != nil {
			t.Fatal(err)
		}
		factory.Start(ctx.Done())
		j.factories = append(j.factories, factory)
		if !cache.WaitForCacheSync(ctx.Done(), heard.HasSynced) {
			t.Fatal("the watch has not begun")
		}
	}
	t.Cleanup(func() {
		cancel()
		for _, f := range j.factories {
			f.Shutdown()
		}
	})
	hear(namespace, func(f informers.SharedInformerFactory) cache.SharedIndexInformer {
		return f.Core().V1().Pods().Informer()
	},
		func(obj any, added bool) { j.pod(obj.(*corev1.Pod), added) })
	hear(metav1.NamespaceSystem, func(f informers.SharedInformerFactory) cache.SharedIndexInformer {
		return f.Coordination().V1().Leases().Informer()
	},
		func(obj any, _ bool) { j.lease(obj.(*coordinationv1.Lease)) })
	return j
}

func (j *journal) pod(pod *corev1.Pod, added bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if added {
		if name, ok := owner(pod, "ReplicaSet"); ok {
			j.replicaSets[name[:strings.LastIndex(name, "-")]]++
		}
		if name, ok := owner(pod, "Job"); ok {
			j.jobs[name]++
		}
	}
	switch was := j.nodes[string(pod.UID)]; {
	case was == pod.Spec.NodeName:
	case was != "":
		j.faults = append(j.faults, fmt.Sprintf("pod %s was bound to %s and then to %s", pod.Name, was, pod.Spec.NodeName))
	default:
		j.nodes[string(pod.UID)], j.bound[pod.Name] = pod.Spec.NodeName, revision(pod.ResourceVersion)
	}
}

// lease notes a new holder. A Lease that was given back has a term of nobody.
func (j *journal) lease(lease *coordinationv1.Lease) {
	j.mu.Lock()
	defer j.mu.Unlock()
	held, holder := j.terms[lease.Name], ptr.Deref(lease.Spec.HolderIdentity, "")
	if len(held) > 0 && held[len(held)-1].holder == holder || lease.Spec.RenewTime == nil {
		return
	}
	j.terms[lease.Name] = append(held, term{revision(lease.ResourceVersion), lease.Spec.RenewTime.Time, holder})
}

// catchUp waits until everything was seen that is there now.
func (j *journal) catchUp(t *testing.T, client kubernetes.Interface) {
	t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "last"}, Spec: containers}
	pod, err := client.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	lease, err := client.CoordinationV1().Leases(metav1.NamespaceSystem).Create(t.Context(), &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "last"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pods, leases := j.factories[0].Core().V1().Pods().Lister().Pods(pod.Namespace), j.factories[1].Coordination().V1().Leases().Lister().Leases(lease.Namespace)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		_, podErr := pods.Get(pod.Name)
		_, leaseErr := leases.Get(lease.Name)
		if podErr == nil && leaseErr == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the watches do not show what is there")
		}
	}
}

func owner(o metav1.Object, kind string) (string, bool) {
	c := metav1.GetControllerOf(o)
	if c == nil || c.Kind != kind {
		return "", false
	}
	return c.Name, true
}

// bindings are the revisions at which pods, by their names, got their nodes.
type bindings map[string]uint64

// verify judges whether anything was done twice, or not at all.
func (w *work) verify(t *testing.T, client kubernetes.Interface, j *journal) {
	t.Helper()
	j.catchUp(t, client)
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, fault := range j.faults {
		t.Error(fault)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.deployments) == 0 || len(w.jobs) == 0 {
		t.Error("nothing was made")
	}
	for name, want := range w.deployments {
		if j.replicaSets[name] != want {
			t.Errorf("for Deployment %s of %d there were %d pods", name, want, j.replicaSets[name])
		}
	}
	for name, want := range w.jobs {
		if j.jobs[name] != want {
			t.Errorf("for Job %s of %d there were %d pods", name, want, j.jobs[name])
		}
	}
	verifySlots(t, client)
	t.Logf("%d Deployments, %d Jobs, %d pods bound", len(w.deployments), len(w.jobs), len(j.bound))
}

// verifySlots: one Job for each minute of each CronJob, from its first on.
func verifySlots(t *testing.T, client kubernetes.Interface) {
	t.Helper()
	jobs, err := client.BatchV1().Jobs(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	slots := map[string][]time.Time{}
	for _, j := range jobs.Items {
		if name, ok := owner(&j, "CronJob"); ok {
			at, err := time.Parse(time.RFC3339, j.Annotations[batchv1.CronJobScheduledTimestampAnnotation])
			if err != nil {
				t.Errorf("Job %s: %v", j.Name, err)
			}
			slots[name] = append(slots[name], at)
		}
	}
	for name, at := range slots {
		sort.Slice(at, func(i, j int) bool { return at[i].Before(at[j]) })
		for i := 1; i < len(at); i++ {
			if at[i].Sub(at[i-1]) != time.Minute {
				t.Errorf("CronJob %s has Jobs of %s and %s", name, at[i-1], at[i])
			}
		}
	}
}

// term is one holder's of a Lease, from a revision on, which it asked for at that time.
type term struct {
	from   uint64
	asked  time.Time
	holder string
}

// late tells whether a request that one of the identities got in its turn wrote a revision of a later term, not its own. What wrote
// nothing is answered with a revision of an earlier one.
func late(terms []term, own map[string]bool, received time.Time, at uint64) (holder string, yes bool) {
	began, wrote := -1, -1
	for i, term := range terms {
		if own[term.holder] && !term.asked.After(received) {
			began = i
		}
		if term.from <= at {
			wrote = i
		}
	}
	return terms[max(0, wrote)].holder, wrote > began && !own[terms[wrote].holder]
}

const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  verbs: [get, list, watch]
- level: None
  users: ["system:apiserver"]
- level: None
  resources: [{group: coordination.k8s.io, resources: [leases]}]
- level: RequestResponse
  users: ["system:kube-controller-manager", "system:kube-scheduler"]
- level: RequestResponse
  userGroups: ["system:serviceaccounts:kube-system"]
- level: None
`

// audited is what is read of a record.
type audited struct {
	AuditID, Verb string
	User          struct{ Username string }
	ObjectRef     struct{ Resource, Namespace, Name, Subresource string }

	RequestReceivedTimestamp time.Time

	ResponseStatus struct{ Code int }
	ResponseObject struct {
		Kind     string
		Metadata struct{ ResourceVersion string }
	}
}

var identity = regexp.MustCompile(`msg=Elected .*identity=(\S+)`)

// verifyRecord: whatever a server's agents wrote has a revision at which that server held the Lease.
func verifyRecord(t *testing.T, s *recorded, j *journal) {
	t.Helper()
	log, err := os.ReadFile(s.Log)
	if err != nil {
		t.Fatal(err)
	}
	own := map[string]bool{}
	for _, m := range identity.FindAllStringSubmatch(string(log), -1) {
		own[m[1]] = true
	}
	file, err := os.Open(s.audit)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 16<<20)
	var judged int
	for lines.Scan() {
		var a audited
		if json.Unmarshal(lines.Bytes(), &a) != nil || a.ResponseStatus.Code/100 != 2 {
			continue // the last line of a process that was killed, or nothing was written
		}
		var at uint64
		switch {
		case a.ObjectRef.Subresource == "binding":
			at = j.bound[a.ObjectRef.Name]
		case a.ResponseObject.Kind != "Status" && a.ResponseObject.Metadata.ResourceVersion != "":
			at = revision(a.ResponseObject.Metadata.ResourceVersion)
		}
		if at == 0 {
			continue
		}
		lease := "kube-controller-manager"
		if a.User.Username == "system:kube-scheduler" {
			lease = "kube-scheduler"
		}
		if holder, yes := late(j.terms[lease], own, a.RequestReceivedTimestamp, at); yes {
			t.Errorf("%s wrote revision %d when the Lease was %q's: %s", s.Addr(), at, holder, lines.Text()[:min(600, len(lines.Text()))])
		}
		judged++
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %d turns, %d writes of its agents", s.Addr(), len(own), judged)
}
