package image

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/rowlock-io/rowlock/agents/node/fakecri"
	"github.com/rowlock-io/rowlock/agents/node/podstatus"
	"github.com/rowlock-io/rowlock/agents/node/runtime"
)

// TestRuntimes pulls through the CRI of runtimes that answer with ids, and of such that answer with digests.
func TestRuntimes(t *testing.T) {
	t.Parallel()
	for name, profile := range map[string]fakecri.Profile{"containerd": fakecri.Containerd(), "CRI-O": fakecri.CRIO()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake := fakecri.Start(t, profile)
			r, err := runtime.Dial(t.Context(), fake.Endpoint(), runtime.Options{Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			web := fakecri.Image("example.com/web:1")
			web.Uid = &runtimeapi.Int64Value{Value: 1000}
			fake.Offer(fakecri.Offer{Image: web, Auth: func(a *runtimeapi.AuthConfig) error {
				if a.GetPassword() != "good" {
					return errors.New("unauthorized")
				}
				return nil
			}})
			recorder := record.NewFakeRecorder(100)
			c := Config{Images: r.Images(), Secrets: &registry{}, Recorder: recorder, Log: slog.New(slog.DiscardHandler), Directory: t.TempDir()}
			for i, tc := range []struct {
				pod   *corev1.Pod
				pulls int
				err   string // the reason
			}{
				{pod: podOf("a", "example.com/web:1", corev1.PullIfNotPresent, "good"), pulls: 1},
				{pod: podOf("a", "example.com/web:1", corev1.PullIfNotPresent, "good")},
				{pod: podOf("b", "example.com/web:1", corev1.PullIfNotPresent, "good")},
				{pod: podOf("c", "example.com/web:1", corev1.PullIfNotPresent), pulls: 1, err: "ErrImagePull"},
				{pod: podOf("d", "example.com/web:1", corev1.PullNever), err: "ErrImageNeverPull"},
				{pod: podOf("e", "example.com/web:1", corev1.PullAlways, "good"), pulls: 1},
				{pod: podOf("f", "example.com/nothing:1", corev1.PullIfNotPresent), pulls: 1, err: "ErrImagePull"},
			} {
				m, err := Open(t.Context(), c) // as if the agent began anew each time
				if err != nil {
					t.Fatal(err)
				}
				fake.ForgetCalls()
				got, err := ensure(t, m, tc.pod)
				reason := ""
				if w := (*podstatus.Waiting)(nil); errors.As(err, &w) {
					reason = w.Reason
				}
				if n := len(fake.Calls("PullImage")); n != tc.pulls || reason != tc.err || (err == nil) != (tc.err == "") {
					t.Errorf("%d: %d pulls, %v; want %d, %s", i, n, err, tc.pulls, tc.err)
				}
				if err == nil && (got.Ref != fake.Images()[0].Id || got.UID == nil || *got.UID != 1000) {
					t.Errorf("%d: image is %+v", i, got)
				}
			}
			last := recorded(recorder)
			if diff := cmp.Diff(true, strings.Contains(fmt.Sprint(last), `Failed to pull image "example.com/nothing:1": rpc error: code = NotFound desc = `)); diff != "" {
				t.Errorf("events: %q", last)
			}
		})
	}
}
