package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/kubernetes/pkg/kubelet/userns"

	"github.com/rowlock-io/rowlock/agents/node/register"
	"github.com/rowlock-io/rowlock/agents/node/runtime"
	"github.com/rowlock-io/rowlock/agents/node/volume"
	"github.com/rowlock-io/rowlock/agents/node/worker"
)

// users gives pods that want users of their own (hostUsers: false, KEP-127) parts of the node's user and group IDs. Which part a pod has
// is in a file of its directory, as a kubelet keeps it.
type users struct {
	manager *userns.UsernsManager
	log     logr.Logger
	pods    string // directory

	mu sync.Mutex // of who gives and who takes away
}

func newUsers(pods string, most int, handler func(string) (runtime.Handler, bool), log *slog.Logger) (*users, error) {
	u := &users{log: logr.FromSlogHandler(log.Handler()), pods: pods}
	var err error
	u.manager, err = userns.MakeUserNsManager(u.log, usersNode{pods: pods, most: cmp.Or(most, register.MaxPods), handler: handler}, nil)
	if err != nil {
		return nil, fmt.Errorf("user namespaces: %w", err)
	}
	return u, nil
}

// of is a pod's part; the pod has the node's own when it does not ask for any.
func (u *users) of(pod *corev1.Pod, handler string) (*worker.Users, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.manager.GetOrCreateUserNamespaceMappings(u.log, pod, handler)
}

// takeBack gives the parts to others that pods have which are not kept.
func (u *users) takeBack(ctx context.Context, keep func(types.UID) bool) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	there, err := podsIn(u.pods)
	if err != nil {
		return err
	}
	var kept []*corev1.Pod
	for _, uid := range there {
		if keep(uid) {
			pod := &corev1.Pod{}
			pod.UID = uid
			kept = append(kept, pod)
		}
	}
	return u.manager.CleanupOrphanedPodUsernsAllocations(logr.NewContext(ctx, u.log), kept, nil)
}

// podVolumes are pods' directories, with the IDs that the pods have.
type podVolumes struct {
	*volume.Manager
	users *users
}

func (v podVolumes) Remove(ctx context.Context, uid types.UID) error {
	if err := v.Manager.Remove(ctx, uid); err != nil {
		return err
	}
	v.users.mu.Lock()
	defer v.users.mu.Unlock()
	v.users.manager.Release(v.users.log, uid)
	return nil
}

func (v podVolumes) Orphans(ctx context.Context, keep func(types.UID) bool) error {
	return errors.Join(v.Manager.Orphans(ctx, keep), v.users.takeBack(ctx, keep))
}

// usersNode is what upstream's manager asks of a node.
type usersNode struct {
	pods    string
	most    int
	handler func(string) (runtime.Handler, bool)
}

func (n usersNode) HandlerSupportsUserNamespaces(name string) (bool, error) {
	h, known := n.handler(name)
	if !known && name != "" {
		return false, fmt.Errorf("the handler %q is not known", name)
	}
	return h.UserNamespaces, nil
}

func (n usersNode) GetPodDir(uid types.UID) string { return filepath.Join(n.pods, string(uid)) }

func (n usersNode) ListPodsFromDisk() ([]types.UID, error) { return podsIn(n.pods) }

func (n usersNode) GetMaxPods() int { return n.most }

// GetKubeletMappings are the IDs that are for pods: those that the operator gave the user kubelet, or else all after the node's own.
func (n usersNode) GetKubeletMappings(_ logr.Logger, each uint32) (first, length uint32, err error) {
	var unknown user.UnknownUserError
	_, err = user.Lookup("kubelet")
	if err == nil {
		var program string
		if program, err = exec.LookPath("getsubids"); err == nil {
			return subordinate(program, "kubelet")
		}
	}
	if errors.As(err, &unknown) || errors.Is(err, exec.ErrNotFound) {
		return each, math.MaxUint32 - each + 1, nil
	}
	return 0, 0, err
}

// subordinate asks which IDs are a user's to give away.
func subordinate(program, name string) (first, length uint32, err error) {
	uids, err := exec.Command(program, name).Output() //nolint:gosec // shadow's own, which knows where they are written
	if err != nil {
		return 0, 0, fmt.Errorf("error retrieving additional uids for user %q: %w", name, err)
	}
	gids, err := exec.Command(program, "-g", name).Output() //nolint:gosec // the same
	if err != nil {
		return 0, 0, fmt.Errorf("error retrieving additional gids for user %q: %w", name, err)
	}
	if string(uids) != string(gids) {
		return 0, 0, fmt.Errorf("mismatched subuids and subgids for user %q", name)
	}
	fields := strings.Fields(string(uids)) // 0: kubelet 65536 4294901760
	if len(fields) != 4 {
		return 0, 0, fmt.Errorf("invalid line %q: there must be one range of IDs", uids)
	}
	var numbers [2]uint64
	for i := range numbers {
		if numbers[i], err = strconv.ParseUint(fields[2+i], 10, 32); err != nil {
			return 0, 0, fmt.Errorf("error parsing line %q: %w", uids, err)
		}
	}
	return uint32(numbers[0]), uint32(numbers[1]), nil
}

// podsIn are pods that have a directory.
func podsIn(directory string) ([]types.UID, error) {
	entries, err := os.ReadDir(directory)
	if err != nil {
		return nil, err
	}
	var all []types.UID
	for _, e := range entries {
		if e.IsDir() {
			all = append(all, types.UID(e.Name()))
		}
	}
	return all, nil
}
