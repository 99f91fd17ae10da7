package observe

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-client/pkg/logs"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/util/tail"
	"k8s.io/utils/buffer"
	"k8s.io/utils/ptr"

	"github.com/rowlock-io/rowlock/agents/node/cri"
)

// message is what a container that has ended wrote for its end: its file, or else, when the pod wants it and it failed, the end of its
// log. What cannot be read is said instead.
func message(ctx context.Context, s *runtimeapi.ContainerStatus) string {
	if s.State != runtimeapi.ContainerState_CONTAINER_EXITED {
		return ""
	}
	_, c := cri.Left(s.Labels, s.Annotations)
	fromLog := c.TerminationMessagePolicy == corev1.TerminationMessageFallbackToLogsOnError && s.ExitCode != 0 && s.Reason != "ContainerCannotRun"
	if file := c.TerminationMessagePath; file != "" {
		file = path.Clean("/" + file)
		for _, m := range s.Mounts {
			if m.ContainerPath != file {
				continue
			}
			data, _, err := tail.ReadAtMost(m.HostPath, kubecontainer.MaxContainerTerminationMessageLength)
			switch {
			case err == nil && len(data) > 0:
				return string(data)
			case err != nil && !errors.Is(err, fs.ErrNotExist):
				return fmt.Sprintf("Error on reading termination log %s: %v", m.HostPath, err)
			}
			break
		}
	}
	if !fromLog {
		return ""
	}
	end, err := buffer.NewTypedRingFixed[byte](kubecontainer.MaxContainerTerminationMessageLogLength)
	if err != nil {
		panic(err) // the size is fine
	}
	lines := logs.LogOptions{TailLines: ptr.To[int64](kubecontainer.MaxContainerTerminationMessageLogLines)}
	if err := logs.ReadLogs(ctx, s.LogPath, "", &lines, nil, end, end); err != nil {
		return fmt.Sprintf("Error on reading termination message from logs: %v", err)
	}
	return string(end.Slice())
}
