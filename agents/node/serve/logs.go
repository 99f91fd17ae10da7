package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/util/flushwriter"
	"k8s.io/cri-client/pkg/logs"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
	_ "k8s.io/kubernetes/pkg/apis/core/install" // the options of logs as they are in addresses
	"k8s.io/kubernetes/pkg/apis/core/v1/validation"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/kubelet/images"
)

func (s *Server) containerLogs(w http.ResponseWriter, req *http.Request) {
	name, container := req.PathValue("pod"), req.PathValue("container")
	opts, code, err := logOptions(req)
	if err != nil {
		plain(w, code, err.Error())
		return
	}
	pod := s.cfg.Pods.Pod(req.PathValue("namespace"), name)
	if pod == nil {
		plain(w, http.StatusNotFound, fmt.Sprintf("pod %q does not exist", name))
		return
	}
	if kubecontainer.GetContainerSpec(pod, container) == nil {
		plain(w, http.StatusNotFound, fmt.Sprintf("container %q not found in pod %q", container, name))
		return
	}
	unhurried(w)
	to := flushwriter.Wrap(pace(w))
	stdout, stderr := to, to
	switch stream := opts.Stream; {
	case stream == nil || *stream == corev1.LogStreamAll:
	case *stream == corev1.LogStreamStdout:
		stderr = nil
	case *stream == corev1.LogStreamStderr:
		stdout = nil
	}
	id, err := logged(pod.Name, &pod.Status, container, opts.Previous)
	if err != nil {
		plain(w, http.StatusBadRequest, err.Error())
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	path, err := s.logPath(req.Context(), id)
	if err != nil {
		plain(w, http.StatusBadRequest, err.Error())
		return
	}
	// Whoever follows a container that says nothing yet is to know that it is being followed.
	if _, err := to.Write(nil); err != nil {
		return
	}
	if err := logs.ReadLogs(req.Context(), path, id.ID, readOptions(opts, time.Now()), s.cfg.Runtime, stdout, stderr); err != nil && req.Context().Err() == nil {
		_, _ = io.WriteString(to, err.Error()) // the code is out: the words are where the log would be
	}
}

// logOptions are what a request asks for, or else the code and words of its refusal.
func logOptions(req *http.Request) (*corev1.PodLogOptions, int, error) {
	query := req.URL.Query()
	switch tail := query.Get("tail"); tail { // of old
	case "":
	case "all":
		query.Del("tailLines")
	default:
		query.Set("tailLines", tail)
	}
	opts := &corev1.PodLogOptions{}
	if err := legacyscheme.ParameterCodec.DecodeParameters(query, corev1.SchemeGroupVersion, opts); err != nil {
		return nil, http.StatusBadRequest, errors.New(`{"message": "Unable to decode query."}`)
	}
	if opts.Stream == nil {
		all := corev1.LogStreamAll
		opts.Stream = &all
	}
	opts.TypeMeta = metav1.TypeMeta{}
	if problems := validation.ValidatePodLogOptions(opts); len(problems) > 0 {
		return nil, http.StatusUnprocessableEntity, errors.New(`{"message": "Invalid request."}`)
	}
	return opts, 0, nil
}

func readOptions(from *corev1.PodLogOptions, now time.Time) *logs.LogOptions {
	opts := &logs.LogOptions{TailLines: from.TailLines, LimitBytes: from.LimitBytes, Follow: from.Follow, Timestamp: from.Timestamps}
	if from.SinceSeconds != nil {
		opts.Since = now.Add(-time.Duration(*from.SinceSeconds) * time.Second)
	}
	if from.SinceTime != nil && from.SinceTime.After(opts.Since) {
		opts.Since = from.SinceTime.Time
	}
	return opts
}

// logPath is where the runtime writes what a container says.
func (s *Server) logPath(ctx context.Context, id kubecontainer.ContainerID) (string, error) {
	resp, err := s.cfg.Runtime.ContainerStatus(ctx, id.ID, false)
	if err != nil || resp.GetStatus() == nil {
		s.cfg.Log.Debug("Container that has logs was not found", "container", id.String(), "err", err)
		return "", fmt.Errorf("unable to retrieve container logs for %v", id.String())
	}
	return resp.GetStatus().GetLogPath(), nil
}

// logged is the container whose log is meant: the running one, or else the last one; before that one when previous is asked for.
func logged(pod string, status *corev1.PodStatus, container string, previous bool) (kubecontainer.ContainerID, error) {
	var of corev1.ContainerStatus
	found := false
	for _, list := range [][]corev1.ContainerStatus{status.ContainerStatuses, status.InitContainerStatuses, status.EphemeralContainerStatuses} {
		if of, found = podutil.GetContainerStatus(list, container); found {
			break
		}
	}
	if !found {
		return kubecontainer.ContainerID{}, fmt.Errorf("container %q in pod %q is not available", container, pod)
	}
	id, wrong := "", ""
	state, last := of.State, ""
	if of.LastTerminationState.Terminated != nil {
		last = of.LastTerminationState.Terminated.ContainerID
	}
	switch {
	case previous:
		if last == "" {
			return kubecontainer.ContainerID{}, fmt.Errorf("previous terminated container %q in pod %q not found", container, pod)
		}
		id = last
	case state.Running != nil:
		id = of.ContainerID
	case state.Terminated != nil && state.Terminated.ContainerID != "":
		id = state.Terminated.ContainerID
	case last != "":
		id = last
	case state.Terminated != nil, of.LastTerminationState.Terminated != nil:
		wrong = "is terminated"
	case state.Waiting != nil:
		switch reason := state.Waiting.Reason; reason {
		case images.ErrImagePull.Error():
			wrong = "is waiting to start: image can't be pulled"
		case images.ErrImagePullBackOff.Error():
			wrong = "is waiting to start: trying and failing to pull image"
		default:
			wrong = "is waiting to start: " + reason
		}
	default:
		wrong = "is waiting to start - no logs yet"
	}
	if wrong != "" {
		return kubecontainer.ContainerID{}, fmt.Errorf("container %q in pod %q %s", container, pod, wrong)
	}
	return kubecontainer.ParseContainerID(id), nil
}
