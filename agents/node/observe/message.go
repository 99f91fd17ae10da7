package observe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-client/pkg/logs"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
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
			data, err := end(m.HostPath, kubecontainer.MaxContainerTerminationMessageLength)
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
	last, err := buffer.NewTypedRingFixed[byte](kubecontainer.MaxContainerTerminationMessageLogLength)
	if err != nil {
		panic(err) // the size is fine
	}
	lines := logs.LogOptions{TailLines: ptr.To[int64](kubecontainer.MaxContainerTerminationMessageLogLines)}
	if err := logs.ReadLogs(ctx, s.LogPath, "", &lines, nil, last, last); err != nil {
		return fmt.Sprintf("Error on reading termination message from logs: %v", err)
	}
	return string(last.Slice())
}

// end is the end of a file. The path may lead into a volume that a pod can write to, with anything there by now: links are not followed, for
// they could lead to what the pod must not see, and what is no file is not opened, for one would wait for who writes to a pipe.
func end(path string, most int64) ([]byte, error) {
	fd, err := unlinked(path)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd) //nolint:errcheck // opened for its path only
	var st unix.Stat_t
	switch err := unix.Fstat(fd, &st); {
	case err != nil:
		return nil, &fs.PathError{Op: "stat", Path: path, Err: err}
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, &fs.PathError{Op: "read", Path: path, Err: errors.New("not a regular file")}
	}
	file, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", fd), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // it was only read
	return io.ReadAll(io.NewSectionReader(file, max(st.Size-most, 0), most))
}

// unlinked opens a path, without reading, if no part of it is a link.
func unlinked(path string) (int, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW, Resolve: unix.RESOLVE_NO_SYMLINKS}
	fd, err := unix.Openat2(unix.AT_FDCWD, path, &how)
	if !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EPERM) {
		return fd, err
	}
	if real, err := filepath.EvalSymlinks(path); err != nil { // before Linux 5.6
		return -1, err
	} else if real != filepath.Clean(path) {
		return -1, unix.ELOOP
	}
	return unix.Open(path, unix.O_PATH|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
}
