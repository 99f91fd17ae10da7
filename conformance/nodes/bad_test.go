package nodes

import (
	"context"
	"fmt"
	"strings"
	"testing"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rowlock-io/rowlock/conformance/noderuntime"
)

// complaint is what is to be heard of a pod that cannot run as it is. What is empty may be anything.
type complaint struct {
	phase          corev1.PodPhase
	reason         string // the pod's
	message        string // a part of it
	waiting        string // the reasons that its container may wait for, with | between them
	waitingMessage string // a part
	event          string // REASON: a part of the message
}

// bad are pods by their names, as their specs are in a manifest, with what a kubelet says of them. CONTAINER is one that sleeps.
var bad = map[string]struct {
	spec string
	want complaint
}{
	"invalid-image": {
		`containers: [{name: c, image: "registry.k8s.io//Not_A_Name"}]`,
		complaint{phase: corev1.PodPending, waiting: "InvalidImageName", waitingMessage: "couldn't parse image name", event: "InspectFailed: couldn't parse image name"},
	},
	"never-pulled": {
		`containers: [{name: c, image: "registry.k8s.io/nobody:1", imagePullPolicy: Never}]`,
		complaint{
			phase: corev1.PodPending, waiting: "ErrImageNeverPull", waitingMessage: `Container image "registry.k8s.io/nobody:1" is not present with pull policy of Never`,
			event: "ErrImageNeverPull: ",
		},
	},
	"image-user": {
		`containers: [{name: c, image: "registry.k8s.io/stranger:1"}]`,
		complaint{phase: corev1.PodPending, waiting: "CreateContainerError", waitingMessage: "no users found", event: "Failed: Error: "},
	},
	"non-root": {
		`containers: [{name: c, image: IMAGE, securityContext: {runAsNonRoot: true}}]`,
		complaint{phase: corev1.PodPending, waiting: "CreateContainerConfigError", waitingMessage: "container has runAsNonRoot and image will run as root"},
	},
	"runtime-class": {
		`runtimeClassName: nope
  containers: [CONTAINER]`,
		complaint{phase: corev1.PodPending, waiting: "ContainerCreating", event: `FailedCreatePodSandBox: Failed to create pod sandbox: `},
	},
	"apparmor": {
		`containers: [CONTAINER]
  securityContext: {appArmorProfile: {type: Localhost, localhostProfile: nothing}}`,
		complaint{phase: corev1.PodFailed, reason: "AppArmor", message: "Cannot enforce AppArmor", event: "AppArmor: Cannot enforce AppArmor"},
	},
	"seccomp": {
		`containers: [CONTAINER]
  securityContext: {seccompProfile: {type: Localhost, localhostProfile: nothing.json}}`,
		complaint{phase: corev1.PodPending, waiting: "CreateContainerError", waitingMessage: "nothing.json"},
	},
	"sysctl": {
		`containers: [CONTAINER]
  securityContext: {sysctls: [{name: kernel.msgmax, value: "65536"}]}`,
		complaint{phase: corev1.PodFailed, reason: "SysctlForbidden", message: `forbidden sysctl: "kernel.msgmax" not allowlisted`},
	},
	"selector": {
		`nodeName: one
  nodeSelector: {disk: none}
  containers: [CONTAINER]`,
		complaint{phase: corev1.PodFailed, reason: "NodeAffinity", message: "Pod was rejected: Predicate NodeAffinity failed"},
	},
	"too-large": {
		`nodeName: one
  containers: [{name: c, image: IMAGE, resources: {requests: {cpu: 1000}}}]`,
		complaint{phase: corev1.PodFailed, reason: "OutOfcpu", message: "Node didn't have enough resource: cpu, requested: 1000000"},
	},
	"windows": {
		`nodeName: one
  os: {name: windows}
  containers: [CONTAINER]`,
		complaint{phase: corev1.PodFailed, reason: "PodOSNotSupported", message: "Failed to admit pod as the OS field doesn't match node OS"},
	},
	"port": {
		`nodeName: one
  containers: [{name: c, image: IMAGE, ports: [{containerPort: 80, hostPort: 8123}]}]`,
		complaint{phase: corev1.PodFailed, reason: "NodePorts", message: "Predicate NodePorts failed"},
	},
	"no-configmap": {
		`containers: [{name: c, image: IMAGE, envFrom: [{configMapRef: {name: none}}]}]`,
		complaint{phase: corev1.PodPending, waiting: "CreateContainerConfigError", waitingMessage: `configmap "none" not found`, event: `Failed: Error: configmap "none" not found`},
	},
	"no-key": {
		`containers: [{name: c, image: IMAGE, env: [{name: A, valueFrom: {configMapKeyRef: {name: some, key: none}}}]}]`,
		complaint{phase: corev1.PodPending, waiting: "CreateContainerConfigError", waitingMessage: "couldn't find key none in ConfigMap default/some"},
	},
	"no-secret": {
		`containers: [{name: c, image: IMAGE, volumeMounts: [{name: v, mountPath: /v}]}]
  volumes: [{name: v, secret: {secretName: none}}]`,
		complaint{phase: corev1.PodPending, waiting: "ContainerCreating", event: `FailedMount: MountVolume.SetUp failed for volume "v" : secret "none" not found`},
	},
	"host-path": {
		`containers: [{name: c, image: IMAGE, volumeMounts: [{name: v, mountPath: /v}]}]
  volumes: [{name: v, hostPath: {path: /nowhere, type: Directory}}]`,
		complaint{phase: corev1.PodPending, waiting: "ContainerCreating", event: `FailedMount: MountVolume.SetUp failed for volume "v" : hostPath type check failed: /nowhere is not a directory`},
	},
	"claim": {
		`nodeName: one
  containers: [{name: c, image: IMAGE, volumeMounts: [{name: v, mountPath: /v}]}]
  volumes: [{name: v, persistentVolumeClaim: {claimName: none}}]`,
		complaint{phase: corev1.PodPending, waiting: "ContainerCreating", event: "FailedMount: "},
	},
	"csi": {
		`containers: [{name: c, image: IMAGE, volumeMounts: [{name: v, mountPath: /v}]}]
  volumes: [{name: v, csi: {driver: none.example.com}}]`,
		complaint{phase: corev1.PodPending, waiting: "ContainerCreating", event: "FailedMount: "},
	},
	"way-out": {
		`initContainers: [{name: i, image: IMAGE, command: [ln, -s, /etc, /v/way], volumeMounts: [{name: v, mountPath: /v}]}]
  containers: [{name: c, image: IMAGE, volumeMounts: [{name: v, mountPath: /x, subPath: way}]}]
  volumes: [{name: v, emptyDir: {}}]`,
		complaint{phase: corev1.PodPending, waiting: "CreateContainerConfigError", waitingMessage: `failed to prepare subPath for volumeMount "v" of container "c"`},
	},
	"no-program": {
		`containers: [{name: c, image: IMAGE, command: [/not/there]}]`,
		complaint{phase: corev1.PodRunning, waiting: "RunContainerError|CrashLoopBackOff", event: "Failed: Error: "},
	},
	"hook": {
		`containers: [{name: c, image: IMAGE, command: [sleep, "3600"], lifecycle: {postStart: {exec: {command: ["false"]}}}}]
  terminationGracePeriodSeconds: 1`,
		complaint{waiting: "PostStartHookError|CrashLoopBackOff", event: "FailedPostStartHook: PostStartHook failed"},
	},
}

// badOnCRIO is what CRI-O says in other words: it looks for the user and the program when it makes the container.
var badOnCRIO = map[string]complaint{
	"image-user": {phase: corev1.PodPending, waiting: "CreateContainerError", waitingMessage: "unable to find user nobody-here", event: "Failed: Error: "},
	"no-program": {phase: corev1.PodPending, waiting: "CreateContainerError", waitingMessage: "no such file or directory", event: "Failed: Error: "},
}

// TestBad: pods that the node cannot run as they are say why in upstream's words, and the node goes on.
func TestBad(t *testing.T) {
	c := newServer(t)
	c.fabric.Registry.Add(t, &noderuntime.Image{
		Name: "registry.k8s.io/stranger:1", Base: noderuntime.Busybox(t), Config: imagespec.ImageConfig{User: "nobody-here", Cmd: []string{"sleep", "3600"}},
	})
	c.join(t, "one")
	c.kubectl(t, "{apiVersion: node.k8s.io/v1, kind: RuntimeClass, metadata: {name: nope}, handler: nope}", "apply", "-f", "-")
	c.kubectl(t, "", "create", "configmap", "some", "--from-literal=a=b")
	c.kubectl(t, pod("first", "nodeName: one\n  containers: [{name: c, image: IMAGE, command: [sleep, '3600'], ports: [{containerPort: 80, hostPort: 8123}]}]"), "apply", "-f", "-")
	c.running(t, "first")
	var all strings.Builder
	for name, b := range bad {
		all.WriteString(pod(name, b.spec) + "---\n")
	}
	c.kubectl(t, all.String(), "apply", "-f", "-")
	for name, b := range bad {
		want := b.want
		if other, ok := badOnCRIO[name]; ok && noderuntime.Chosen(t) == noderuntime.CRIO {
			want = other
		}
		t.Run(name, func(t *testing.T) { c.complains(t, name, want) })
	}
	c.kubectl(t, pod("last", "containers: [CONTAINER]"), "apply", "-f", "-")
	c.running(t, "last")
	c.running(t, "first")
	c.kubectl(t, "", "delete", "pods", "--all", "--timeout=60s")
	c.spotless(t, c.nodes[0])
}

// pod is a manifest of one with this spec.
func pod(name, spec string) string {
	spec = strings.ReplaceAll(spec, "CONTAINER", "{name: c, image: IMAGE, command: [sleep, '3600']}")
	spec = strings.ReplaceAll(spec, "IMAGE", noderuntime.BusyboxImage)
	if !strings.Contains(spec, "terminationGracePeriodSeconds") {
		spec += "\n  terminationGracePeriodSeconds: 0"
	}
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s, labels: {app: %s}}\nspec:\n  %s\n", name, name, spec)
}

// running waits until a pod runs.
func (c *cluster) running(t *testing.T, name string) *corev1.Pod {
	t.Helper()
	return c.until(t, name, "it runs", func(p *corev1.Pod) bool {
		for _, s := range p.Status.ContainerStatuses {
			if s.State.Running == nil {
				return false
			}
		}
		return p.Status.Phase == corev1.PodRunning
	})
}

// until waits until something is so of a pod.
func (c *cluster) until(t *testing.T, name, what string, is func(*corev1.Pod) bool) *corev1.Pod {
	t.Helper()
	var pod *corev1.Pod
	c.eventually(t, name+": "+what, func(ctx context.Context) (bool, error) {
		var err error
		pod, err = c.CoreV1().Pods("default").Get(ctx, name, metav1.GetOptions{})
		return err == nil && is(pod), nil
	})
	return pod
}

func (c *cluster) complains(t *testing.T, name string, want complaint) {
	t.Helper()
	var last string
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(last)
		}
	})
	c.until(t, name, "what is wrong", func(p *corev1.Pod) bool {
		waits, message := "", ""
		if len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].State.Waiting != nil {
			waits, message = p.Status.ContainerStatuses[0].State.Waiting.Reason, p.Status.ContainerStatuses[0].State.Waiting.Message
		}
		last = fmt.Sprintf("%s is %s, reason %q, message %q, its container waits for %q, %q", name, p.Status.Phase, p.Status.Reason, p.Status.Message, waits, message)
		return (want.phase == "" || want.phase == p.Status.Phase) && want.reason == p.Status.Reason && strings.Contains(p.Status.Message, want.message) &&
			(want.waiting == "" || waits != "" && strings.Contains("|"+want.waiting+"|", "|"+waits+"|")) && strings.Contains(message, want.waitingMessage)
	})
	if want.event == "" {
		return
	}
	reason, part, _ := strings.Cut(want.event, ": ")
	c.eventually(t, name+" has an event "+want.event, func(ctx context.Context) (bool, error) {
		list, err := c.CoreV1().Events("default").List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=" + name})
		if err != nil {
			return false, err
		}
		last = ""
		for _, e := range list.Items {
			if e.Reason == reason && strings.Contains(e.Message, part) {
				return true, nil
			}
			last += e.Reason + ": " + e.Message + "\n"
		}
		return false, nil
	})
}
