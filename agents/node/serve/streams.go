package serve

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/proxy"
	translator "k8s.io/apiserver/pkg/util/proxy"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	kubelettypes "k8s.io/kubelet/pkg/types"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

var (
	errNoPod    = errors.New("pod does not exist")
	errOtherPod = errors.New("pod not found")
)

// pod is the one that a request names; nil: it has been answered.
func (s *Server) pod(w http.ResponseWriter, req *http.Request) *corev1.Pod {
	pod := s.cfg.Pods.Pod(req.PathValue("namespace"), req.PathValue("pod"))
	if pod == nil {
		plain(w, http.StatusNotFound, errNoPod.Error())
	}
	return pod
}

// another tells whether a request means another pod of this name. A static pod has its mirror's UID where the API names it.
func another(pod *corev1.Pod, req *http.Request) bool {
	uid := types.UID(req.PathValue("uid"))
	return uid != "" && uid != pod.UID && string(uid) != pod.Annotations[corev1.MirrorPodAnnotationKey]
}

// asked is the container that a request names; "": it does not run.
func (s *Server) asked(req *http.Request, pod *corev1.Pod) (string, error) {
	if another(pod, req) {
		return "", nil
	}
	return s.running(req.Context(), pod, req.PathValue("container"))
}

func errNoContainer(req *http.Request) error {
	return fmt.Errorf("container not found (%q)", req.PathValue("container"))
}

func (s *Server) exec(w http.ResponseWriter, req *http.Request) {
	s.command(w, req, func(ctx context.Context, _ *corev1.Pod, id string, opts *remotecommand.Options) (string, error) {
		if id == "" {
			return "", errNoContainer(req)
		}
		resp, err := s.cfg.Runtime.Exec(ctx, &runtimeapi.ExecRequest{
			ContainerId: id, Cmd: req.URL.Query()["command"], Tty: opts.TTY, Stdin: opts.Stdin, Stdout: opts.Stdout, Stderr: opts.Stderr,
		})
		return resp.GetUrl(), err
	})
}

func (s *Server) attach(w http.ResponseWriter, req *http.Request) {
	s.command(w, req, func(ctx context.Context, pod *corev1.Pod, id string, opts *remotecommand.Options) (string, error) {
		name := req.PathValue("container")
		spec := kubecontainer.GetContainerSpec(pod, name)
		if spec == nil || id == "" {
			return "", fmt.Errorf("container %s not found in pod %s", name, kubecontainer.GetPodFullName(pod))
		}
		resp, err := s.cfg.Runtime.Attach(ctx, &runtimeapi.AttachRequest{ // whether it has a terminal was settled when it began
			ContainerId: id, Tty: spec.TTY, Stdin: opts.Stdin, Stdout: opts.Stdout, Stderr: opts.Stderr && !spec.TTY,
		})
		return resp.GetUrl(), err
	})
}

// command connects to a process of a container, at the address that the runtime gives for it.
func (s *Server) command(w http.ResponseWriter, req *http.Request,
	prepare func(ctx context.Context, pod *corev1.Pod, id string, opts *remotecommand.Options) (string, error),
) {
	opts, err := remotecommand.NewOptions(req)
	if err != nil {
		plain(w, http.StatusBadRequest, err.Error())
		return
	}
	pod := s.pod(w, req)
	if pod == nil {
		return
	}
	id, err := s.asked(req, pod)
	if err != nil {
		refuse(w, err)
		return
	}
	to, err := address(prepare(req.Context(), pod, id, opts))
	if err != nil {
		refuse(w, err)
		return
	}
	handler := s.forward(to)
	if wsstream.IsWebSocketRequestWithStreamCloseProtocol(req) { // which runtimes do not know
		handler = translator.NewStreamTranslatorHandler(to, nil, 0, translator.Options{
			Stdin: opts.Stdin, Stdout: opts.Stdout, Stderr: opts.Stderr, Tty: opts.TTY,
		})
	}
	handler.ServeHTTP(w, req)
}

func (s *Server) portForward(w http.ResponseWriter, req *http.Request) {
	tunnelled := wsstream.IsWebSocketRequestWithTunnelingProtocol(req)
	opts := &portforward.V4Options{}
	if !tunnelled {
		var err error
		if opts, err = portforward.NewV4Options(req); err != nil {
			plain(w, http.StatusBadRequest, err.Error())
			return
		}
	}
	pod := s.pod(w, req)
	if pod == nil {
		return
	}
	if another(pod, req) {
		plain(w, http.StatusNotFound, errOtherPod.Error())
		return
	}
	to, err := address(s.preparePorts(req.Context(), pod, opts.Ports))
	if err != nil {
		refuse(w, err)
		return
	}
	handler := s.forward(to)
	if tunnelled {
		handler = translator.NewTunnelingHandler(handler)
	}
	handler.ServeHTTP(w, req)
}

func (s *Server) preparePorts(ctx context.Context, pod *corev1.Pod, ports []int32) (string, error) {
	sandboxes, err := s.cfg.Runtime.ListPodSandbox(ctx, &runtimeapi.PodSandboxFilter{
		State:         &runtimeapi.PodSandboxStateValue{State: runtimeapi.PodSandboxState_SANDBOX_READY},
		LabelSelector: map[string]string{kubelettypes.KubernetesPodUIDLabel: string(pod.UID)},
	})
	if err != nil {
		return "", err
	}
	var newest *runtimeapi.PodSandbox
	for _, sandbox := range sandboxes {
		if newest == nil || sandbox.CreatedAt > newest.CreatedAt {
			newest = sandbox
		}
	}
	if newest == nil {
		return "", fmt.Errorf("pod not found (%q)", kubecontainer.GetPodFullName(pod))
	}
	resp, err := s.cfg.Runtime.PortForward(ctx, &runtimeapi.PortForwardRequest{PodSandboxId: newest.Id, Port: ports})
	return resp.GetUrl(), err
}

// running is the container of this name that runs; "": none does.
func (s *Server) running(ctx context.Context, pod *corev1.Pod, name string) (string, error) {
	containers, err := s.cfg.Runtime.ListContainers(ctx, &runtimeapi.ContainerFilter{
		State: &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState_CONTAINER_RUNNING},
		LabelSelector: map[string]string{
			kubelettypes.KubernetesPodUIDLabel: string(pod.UID), kubelettypes.KubernetesContainerNameLabel: name,
		},
	})
	if err != nil {
		return "", err
	}
	var newest *runtimeapi.Container
	for _, c := range containers {
		if newest == nil || c.CreatedAt > newest.CreatedAt {
			newest = c
		}
	}
	if newest == nil {
		return "", nil
	}
	return newest.Id, nil
}

func address(text string, err error) (*url.URL, error) {
	if err != nil {
		return nil, err
	}
	to, err := url.Parse(text)
	if err == nil && to.Host == "" {
		err = fmt.Errorf("the runtime streams at %q, which is no address", text)
	}
	return to, err
}

// refuse answers with what the runtime said.
func refuse(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_ = streaming.WriteError(err, w)
}

// forward passes an upgraded connection on.
func (s *Server) forward(to *url.URL) http.Handler {
	return proxy.NewUpgradeAwareHandler(to, nil, false, true, s)
}

// Error implements proxy.ErrorResponder.
func (s *Server) Error(w http.ResponseWriter, req *http.Request, err error) {
	s.cfg.Log.Warn("Stream failed", "path", req.URL.Path, "err", err)
	http.Error(w, err.Error(), http.StatusInternalServerError)
}
