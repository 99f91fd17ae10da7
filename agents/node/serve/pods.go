package serve

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	kubelettypes "k8s.io/kubelet/pkg/types"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
)

// podList is core/v1's; its pods are not copied.
type podList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []*corev1.Pod `json:"items"`
}

func listed(pods []*corev1.Pod) podList {
	if pods == nil {
		pods = []*corev1.Pod{}
	}
	return podList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: pods}
}

func (s *Server) pods(w http.ResponseWriter, _ *http.Request) { s.json(w, listed(s.cfg.Pods.Pods())) }

// runningPods are those of which the runtime runs something.
func (s *Server) runningPods(w http.ResponseWriter, req *http.Request) {
	containers, err := s.cfg.Runtime.ListContainers(req.Context(), &runtimeapi.ContainerFilter{
		State: &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState_CONTAINER_RUNNING},
	})
	if err != nil {
		s.failed(w, err)
		return
	}
	sandboxes, err := s.cfg.Runtime.ListPodSandbox(req.Context(), &runtimeapi.PodSandboxFilter{
		State: &runtimeapi.PodSandboxStateValue{State: runtimeapi.PodSandboxState_SANDBOX_READY},
	})
	if err != nil {
		s.failed(w, err)
		return
	}
	var pods []*corev1.Pod
	byUID := map[types.UID]*corev1.Pod{}
	of := func(labels map[string]string) *corev1.Pod {
		uid := types.UID(labels[kubelettypes.KubernetesPodUIDLabel])
		if uid == "" {
			return nil // somebody else's
		}
		if byUID[uid] == nil {
			pod := &corev1.Pod{}
			pod.UID, pod.Name, pod.Namespace = uid, labels[kubelettypes.KubernetesPodNameLabel], labels[kubelettypes.KubernetesPodNamespaceLabel]
			pods, byUID[uid] = append(pods, pod), pod
		}
		return byUID[uid]
	}
	for _, sandbox := range sandboxes {
		of(sandbox.Labels)
	}
	for _, c := range containers {
		if pod := of(c.Labels); pod != nil {
			pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{
				Name: c.Labels[kubelettypes.KubernetesContainerNameLabel], Image: c.GetImage().GetImage(),
			})
		}
	}
	s.json(w, listed(pods))
}

func (s *Server) summary(w http.ResponseWriter, req *http.Request) {
	ask := s.cfg.Stats.Summary
	if req.FormValue("only_cpu_and_memory") == "true" {
		ask = s.cfg.Stats.CPUAndMemory
	}
	summary, err := s.sum(req.Context(), ask)
	if err != nil {
		plain(w, http.StatusInternalServerError, fmt.Sprintf("Internal Error: %v", err))
		return
	}
	s.json(w, summary)
}

func (s *Server) sum(ctx context.Context, ask func(context.Context) (*statsapi.Summary, error)) (*statsapi.Summary, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime/2)
	defer cancel()
	return ask(ctx)
}

// run answers with all that a command says, when it has ended.
func (s *Server) run(w http.ResponseWriter, req *http.Request) {
	pod := s.pod(w, req)
	if pod == nil {
		return
	}
	id, err := s.asked(req, pod)
	if err == nil && id == "" {
		err = errNoContainer(req)
	}
	if err != nil {
		s.failed(w, err)
		return
	}
	unhurried(w)
	stdout, stderr, err := s.cfg.Runtime.ExecSync(req.Context(), id, strings.Split(req.FormValue("cmd"), " "), 0)
	if err != nil {
		s.failed(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json") // as the kubelet says
	_, _ = pace(w).Write(append(stdout, stderr...))
}

// checkpoint has the runtime write a container's state into a file.
func (s *Server) checkpoint(w http.ResponseWriter, req *http.Request) {
	pod, name := s.pod(w, req), req.PathValue("container")
	if pod == nil {
		return
	}
	if kubecontainer.GetContainerSpec(pod, name) == nil {
		plain(w, http.StatusNotFound, fmt.Sprintf("container %v does not exist", name))
		return
	}
	ask := &runtimeapi.CheckpointContainerRequest{}
	if timeouts := req.URL.Query()["timeout"]; len(timeouts) > 0 {
		var err error
		if ask.Timeout, err = strconv.ParseInt(timeouts[len(timeouts)-1], 10, 64); err != nil {
			plain(w, http.StatusNotFound, "cannot parse value of timeout parameter")
			return
		}
	}
	unhurried(w)
	err := fmt.Errorf("container %v not found", name)
	if s.cfg.Checkpoints == "" {
		err = fmt.Errorf("this node makes no checkpoints")
	} else if id, failed := s.running(req.Context(), pod, name); failed == nil && id != "" {
		ask.ContainerId = id
		ask.Location = filepath.Join(s.cfg.Checkpoints, fmt.Sprintf("checkpoint-%s-%s-%s.tar", kubecontainer.GetPodFullName(pod), name, time.Now().Format(time.RFC3339)))
		err = s.cfg.Runtime.CheckpointContainer(req.Context(), ask)
	}
	if err != nil {
		s.failed(w, fmt.Errorf("checkpointing of %v/%v/%v failed (%v)", pod.Namespace, pod.Name, name, err))
		return
	}
	s.json(w, map[string][]string{"items": {ask.Location}})
}
