package probe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/kubernetes/pkg/kubelet/prober/results"

	"github.com/rowlock-io/rowlock/agents/node/fakecri"
	"github.com/rowlock-io/rowlock/agents/node/runtime"
)

// TestExec runs commands through the CRI of runtimes that say in different ways that one took too long.
func TestExec(t *testing.T) {
	t.Parallel()
	t.Run("containerd", func(t *testing.T) { execs(t, fakecri.Containerd(), `command timed out: "hangs" timed out after 1s`) })
	t.Run("CRI-O", func(t *testing.T) { execs(t, fakecri.CRIO(), "command timed out") })
}

func execs(t *testing.T, profile fakecri.Profile, late string) {
	t.Parallel()
	fake := fakecri.Start(t, profile)
	fake.AddImages("web")
	fake.Script("c", fakecri.Life{Exec: func(ctx context.Context, p *fakecri.Process) (int32, error) {
		switch p.Cmd[0] {
		case "hangs":
			<-ctx.Done()
			return 0, ctx.Err()
		case "missing":
			return 0, errors.New("no such file or directory")
		}
		_, _ = fmt.Fprint(p.Stdout, p.Cmd[1:])
		_, _ = fmt.Fprint(p.Stderr, strings.Repeat("!", 20<<10))
		return int32(len(p.Cmd) - 2), nil
	}})
	r, err := runtime.Dial(t.Context(), fake.Endpoint(), runtime.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	config := &runtimeapi.PodSandboxConfig{Metadata: &runtimeapi.PodSandboxMetadata{Name: "p", Namespace: "n", Uid: "1"}, LogDirectory: t.TempDir()}
	sandbox, err := r.Service().RunPodSandbox(t.Context(), config, "")
	if err != nil {
		t.Fatal(err)
	}
	id, err := r.Service().CreateContainer(t.Context(), sandbox, &runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: "c"}, Image: &runtimeapi.ImageSpec{Image: "web", UserSpecifiedImage: "web"}, LogPath: "c.log",
	}, config)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Service().StartContainer(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		command []string
		id      string
		want    results.Result
		wrong   bool   // it is no answer at all
		event   string // its beginning
		length  int
	}{
		"fine":   {command: []string{"say", "$(WHO)"}},
		"exit 1": {command: []string{"say", "$(WHO)", "too"}, want: results.Failure, event: "Warning Unhealthy Liveness probe failed: [you too]!!!", length: 10<<10 + len("Warning Unhealthy Liveness probe failed: ")},
		"too long": {
			command: []string{"hangs"}, want: results.Failure,
			event: "Warning Unhealthy Liveness probe failed: " + late,
		},
		"missing": {
			command: []string{"missing"}, want: results.Failure, wrong: true,
			event: "Warning Unhealthy Liveness probe errored and resulted in unknown state: rpc error: code = Unknown desc = no such file or directory",
		},
		"gone": {
			id: "nothing", command: []string{"say", "x"}, want: results.Failure, wrong: true,
			event: "Warning Unhealthy Liveness probe errored and resulted in unknown state: rpc error: code = NotFound",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			recorder := record.NewFakeRecorder(10)
			a := newAsker(Config{Runtime: r.Service(), Recorder: recorder, Log: slog.New(slog.DiscardHandler)})
			pod, _ := running("c", "1", corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: tc.command}}})
			c := &pod.Spec.Containers[0]
			c.Env = []corev1.EnvVar{{Name: "WHO", Value: "you"}}
			q := question{kind: liveness, spec: c.ReadinessProbe, pod: pod, container: c, id: id}
			if tc.id != "" {
				q.id = tc.id
			}
			result, err := a.ask(t.Context(), q)
			if diff := cmp.Diff([]any{tc.want, tc.wrong}, []any{result, err != nil}); diff != "" {
				t.Errorf("result (%v): want -, got +:\n%s", err, diff)
			}
			event := ""
			select {
			case event = <-recorder.Events:
			default:
			}
			if !strings.HasPrefix(event, tc.event) || event != "" && tc.event == "" || tc.length != 0 && len(event) != tc.length {
				t.Errorf("event of %d bytes is %.200q, want %q", len(event), event, tc.event)
			}
		})
	}
}
