package gc

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubetypes "k8s.io/kubelet/pkg/types"
)

// pods are told by the letters of their UIDs: g is gone, o is over.
type pods struct{ unknown bool }

func (p pods) Known() bool          { return !p.unknown }
func (pods) Gone(id types.UID) bool { return strings.HasPrefix(string(id), "g") }
func (pods) Over(id types.UID) bool { return strings.HasPrefix(string(id), "o") }
func labelled(pod string) map[string]string {
	return map[string]string{kubetypes.KubernetesPodUIDLabel: pod}
}

var epoch = time.Unix(1000000, 0)

// container is one of a pod, made so many seconds before the epoch; its id tells it all.
func container(pod, name string, age int, state runtimeapi.ContainerState) *runtimeapi.Container {
	made := epoch.Add(-time.Duration(age) * time.Second)
	labels := labelled(pod)
	if pod == "" {
		labels = nil
	}
	return &runtimeapi.Container{
		Id: pod + "/" + name + made.Format(".05"), PodSandboxId: "s" + pod, Metadata: &runtimeapi.ContainerMetadata{Name: name},
		State: state, CreatedAt: made.UnixNano(), Labels: labels,
	}
}

func TestRemovable(t *testing.T) {
	t.Parallel()
	const (
		exited  = runtimeapi.ContainerState_CONTAINER_EXITED
		running = runtimeapi.ContainerState_CONTAINER_RUNNING
		created = runtimeapi.ContainerState_CONTAINER_CREATED
		unknown = runtimeapi.ContainerState_CONTAINER_UNKNOWN
	)
	for _, tc := range []struct {
		name   string
		policy ContainerPolicy
		pods   pods
		all    bool
		have   []*runtimeapi.Container
		want   []int // of have, in order
	}{
		{
			name: "one of each container is kept", policy: ContainerPolicy{MaxPerContainer: 1, Max: -1},
			have: []*runtimeapi.Container{
				container("p", "a", 10, exited), container("p", "a", 30, exited), container("p", "a", 20, exited),
				container("p", "b", 40, exited), container("q", "a", 50, exited),
			},
			want: []int{1, 2},
		},
		{
			name: "those that run do not count", policy: ContainerPolicy{MaxPerContainer: 1, Max: -1},
			have: []*runtimeapi.Container{container("p", "a", 10, running), container("p", "a", 30, exited), container("p", "a", 20, exited)},
			want: []int{1},
		},
		{
			name: "none is kept", policy: ContainerPolicy{Max: -1},
			have: []*runtimeapi.Container{container("p", "a", 10, exited), container("p", "b", 20, unknown), container("p", "c", 30, created)},
			want: []int{2, 1, 0},
		},
		{
			name: "all are kept", policy: ContainerPolicy{MaxPerContainer: -1, Max: -1},
			have: []*runtimeapi.Container{container("p", "a", 10, exited), container("p", "a", 20, exited)},
		},
		{
			name: "too young", policy: ContainerPolicy{MinAge: 25 * time.Second, Max: -1},
			have: []*runtimeapi.Container{container("p", "a", 10, exited), container("p", "a", 30, exited)},
			want: []int{1},
		},
		{
			name: "pods that are gone", policy: ContainerPolicy{MaxPerContainer: 1, Max: -1},
			have: []*runtimeapi.Container{container("g", "a", 10, exited), container("g", "a", 20, running), container("p", "a", 30, exited), container("o", "a", 40, exited)},
			want: []int{0},
		},
		{
			name: "also those of pods that are over", policy: ContainerPolicy{MaxPerContainer: 1, Max: -1}, all: true,
			have: []*runtimeapi.Container{container("g", "a", 10, exited), container("p", "a", 30, exited), container("o", "a", 40, exited)},
			want: []int{2, 0},
		},
		{
			name: "not all pods are known", policy: ContainerPolicy{MaxPerContainer: 1, Max: -1}, pods: pods{unknown: true}, all: true,
			have: []*runtimeapi.Container{container("g", "a", 10, exited), container("g", "a", 20, exited), container("o", "a", 40, exited)},
			want: []int{1},
		},
		{
			name: "the node's most, by containers", policy: ContainerPolicy{MaxPerContainer: -1, Max: 4},
			have: []*runtimeapi.Container{
				container("p", "a", 1, exited), container("p", "a", 2, exited), container("p", "a", 3, exited), container("p", "a", 4, exited),
				container("q", "a", 50, exited), container("q", "a", 51, exited),
			},
			want: []int{3, 2},
		},
		{
			name: "the node's most, the oldest of all", policy: ContainerPolicy{MaxPerContainer: -1, Max: 2},
			have: []*runtimeapi.Container{
				container("p", "a", 1, exited), container("q", "a", 5, exited), container("r", "a", 3, exited), container("p", "a", 4, exited),
			},
			want: []int{1, 3},
		},
		{
			name: "not ours", policy: ContainerPolicy{Max: 0},
			have: []*runtimeapi.Container{container("", "a", 1, exited)},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var got, want []string
			for _, c := range tc.policy.removable(tc.have, tc.pods, tc.all, epoch) {
				got = append(got, c.Id)
			}
			for _, i := range tc.want {
				want = append(want, tc.have[i].Id)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestEmptied(t *testing.T) {
	t.Parallel()
	sandbox := func(pod, id string, age int64, ready bool) *runtimeapi.PodSandbox {
		state := runtimeapi.PodSandboxState_SANDBOX_NOTREADY
		if ready {
			state = runtimeapi.PodSandboxState_SANDBOX_READY
		}
		s := &runtimeapi.PodSandbox{Id: id, State: state, CreatedAt: 1000 - age, Metadata: &runtimeapi.PodSandboxMetadata{Uid: pod}, Labels: labelled(pod)}
		if pod == "" {
			s.Labels = nil
		}
		return s
	}
	have := []*runtimeapi.PodSandbox{
		sandbox("p", "p old", 3, false), sandbox("p", "p used", 2, false), sandbox("p", "p newest", 1, false),
		sandbox("q", "q ready", 2, true), sandbox("q", "q newest", 1, true),
		sandbox("g", "g", 1, false), sandbox("g2", "g ready", 1, true), sandbox("o", "o", 1, false), sandbox("", "foreign", 1, false),
	}
	containers := []*runtimeapi.Container{{PodSandboxId: "p used"}}
	for _, tc := range []struct {
		name string
		pods pods
		all  bool
		want []string
	}{
		{name: "usual", want: []string{"g", "p old"}},
		{name: "all", all: true, want: []string{"g", "o", "p old"}},
		{name: "not all pods are known", pods: pods{unknown: true}, all: true, want: []string{"p old"}},
	} {
		if diff := cmp.Diff(tc.want, emptied(have, containers, tc.pods, tc.all)); diff != "" {
			t.Errorf("%s:\n%s", tc.name, diff)
		}
	}
}

func TestNotice(t *testing.T) {
	t.Parallel()
	r := imageRecords{of: map[string]*imageRecord{}}
	image := func(id string) *runtimeapi.Image { return &runtimeapi.Image{Id: id, Size: 1} }
	ids := func(records []imageRecord) (ids []string) {
		for _, i := range records {
			ids = append(ids, i.id)
		}
		return ids
	}
	uses := func(names ...string) func(*runtimeapi.Image) bool {
		return func(i *runtimeapi.Image) bool { return slices.Contains(names, i.Id) }
	}
	pinned := image("pinned")
	pinned.Pinned = true
	all := []*runtimeapi.Image{image("a"), image("b"), pinned}
	got := ids(r.notice(all, uses("a", "b"), epoch))
	if len(got) != 0 {
		t.Errorf("removable while all are used: %v", got)
	}
	all = append(all, image("c"))
	r.notice(all, uses("a"), epoch.Add(time.Minute))
	if diff := cmp.Diff([]string{"c", "b", "a"}, ids(r.notice(all, uses(), epoch.Add(2*time.Minute)))); diff != "" {
		t.Errorf("those that were not used for longest come first:\n%s", diff)
	}
	r.notice(all[:1], uses(), epoch.Add(3*time.Minute))
	if len(r.of) != 1 {
		t.Errorf("%d images are known, want the one that is there", len(r.of))
	}
	p := ImagePolicy{MaxAge: time.Hour}
	records := []imageRecord{
		{id: "used", first: epoch, lastUse: epoch.Add(90 * time.Minute)},
		{id: "old", first: epoch, lastUse: epoch.Add(time.Minute)},
		{id: "never", first: epoch},
		{id: "new", first: epoch.Add(2 * time.Hour)},
	}
	old, rest := p.aged(records, epoch, epoch.Add(2*time.Hour+time.Minute))
	if diff := cmp.Diff([]string{"old", "never"}, ids(old)); diff != "" || len(rest) != 2 {
		t.Errorf("too old, %d are not:\n%s", len(rest), diff)
	}
	if old, _ := p.aged(records, epoch.Add(90*time.Minute), epoch.Add(2*time.Hour+time.Minute)); len(old) != 0 {
		t.Errorf("soon after it began %v are too old, want none", ids(old))
	}
	if old, _ := (ImagePolicy{}).aged(records, epoch, epoch.Add(1000*time.Hour)); len(old) != 0 {
		t.Errorf("without a limit %v are too old, want none", ids(old))
	}
}

func TestExcess(t *testing.T) {
	t.Parallel()
	p := ImagePolicy{High: 85, Low: 80}
	for _, tc := range []struct {
		capacity, available uint64
		want                int64
		percent             int
	}{
		{1000, 500, 0, 50},
		{1000, 160, 0, 84},
		{1000, 151, 49, 85},
		{1000, 150, 50, 85},
		{1000, 0, 200, 100},
		{1000, 5000, 0, 0},
		{100 << 40, 1 << 40, 19 << 40, 99},
	} {
		want, percent := p.excess(tc.capacity, tc.available)
		if percent != tc.percent || want != tc.want {
			t.Errorf("of %d %d are available: free %d at %d %%, want %d at %d %%", tc.capacity, tc.available, want, percent, tc.want, tc.percent)
		}
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 5 << 20: "5.0 MiB", 3 << 30: "3.0 GiB", 1 << 40: "1.0 TiB", 5 << 50: "5120.0 TiB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %s, want %s", n, got, want)
		}
	}
}
