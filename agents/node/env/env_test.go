package env

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kubetypes "k8s.io/kubernetes/pkg/kubelet/types"
	"k8s.io/utils/ptr"

	"github.com/rowlock-io/rowlock/agents/node/podstatus"
)

// world is all that a container can be told of.
type world struct {
	services map[string][]*corev1.Service
	unknown  bool
	err      error
}

func (w *world) Services(namespace string) ([]*corev1.Service, bool) {
	return w.services[namespace], !w.unknown
}

func (w *world) ConfigMap(_ context.Context, namespace, name string) (*corev1.ConfigMap, error) {
	if w.err != nil {
		return nil, w.err
	}
	if name != "config" || namespace != "n" {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "configmaps"}, name)
	}
	return &corev1.ConfigMap{Data: map[string]string{"B": "of config", "A": "first $(B)", "a.b-c": "odd"}}, nil
}

func (w *world) Secret(_ context.Context, namespace, name string) (*corev1.Secret, error) {
	if w.err != nil {
		return nil, w.err
	}
	if name != "secret" || namespace != "n" {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, name)
	}
	return &corev1.Secret{Data: map[string][]byte{"B": []byte("of secret"), "S": []byte("hidden")}}, nil
}

func service(namespace, name, ip string, ports ...corev1.ServicePort) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: corev1.ServiceSpec{ClusterIP: ip, Ports: ports}}
}

func field(path string) *corev1.EnvVarSource {
	return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path}}
}

func amount(container, name, divisor string) *corev1.EnvVarSource {
	return &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{ContainerName: container, Resource: name, Divisor: resource.MustParse(divisor)}}
}

func ref(name string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: name} }

func TestMake(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	outside := filepath.Join(t.TempDir(), "host")
	for path, content := range map[string]string{
		filepath.Join(directory, "env"): "# facts\nKEY='value' # one\nLONG='two\nlines'\nEMPTY=''\n", filepath.Join(directory, "bad"): "KEY=value\n",
		outside: "KEY='of the node'\n", filepath.Join(directory, "long"): "# " + strings.Repeat("\n", longestFile) + "KEY='value'",
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink(outside, filepath.Join(directory, "link")), os.Symlink("env", filepath.Join(directory, "inner")), syscall.Mkfifo(filepath.Join(directory, "fifo"), 0o600)); err != nil {
		t.Fatal(err)
	}
	file := func(path, key string, optional bool) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{FileKeyRef: &corev1.FileKeySelector{VolumeName: "facts", Path: path, Key: key, Optional: &optional}}
	}
	web := corev1.ServicePort{Name: "web-port", Port: 80, Protocol: corev1.ProtocolTCP}
	services := map[string][]*corev1.Service{
		"default": {service("default", "kubernetes", "10.0.0.1", corev1.ServicePort{Port: 443}), service("default", "other", "10.0.0.2", web)},
		"n":       {service("n", "my-db", "fd00::2", web), service("n", "none", "None", web)},
	}
	const master = "KUBERNETES_PORT=tcp://10.0.0.1:443\nKUBERNETES_PORT_443_TCP=tcp://10.0.0.1:443\nKUBERNETES_PORT_443_TCP_ADDR=10.0.0.1\n" +
		"KUBERNETES_PORT_443_TCP_PORT=443\nKUBERNETES_PORT_443_TCP_PROTO=tcp\nKUBERNETES_SERVICE_HOST=10.0.0.1\nKUBERNETES_SERVICE_PORT=443\n"
	const own = "MY_DB_PORT=tcp://[fd00::2]:80\nMY_DB_PORT_80_TCP=tcp://[fd00::2]:80\nMY_DB_PORT_80_TCP_ADDR=fd00::2\nMY_DB_PORT_80_TCP_PORT=80\n" +
		"MY_DB_PORT_80_TCP_PROTO=tcp\nMY_DB_SERVICE_HOST=fd00::2\nMY_DB_SERVICE_PORT=80\nMY_DB_SERVICE_PORT_WEB_PORT=80\n"
	for name, tc := range map[string]struct {
		links *bool // nil: false, but for the test of it
		from  []corev1.EnvFromSource
		env   []corev1.EnvVar
		world world
		pod   func(*corev1.Pod)
		want  string
		err   string
	}{
		"services": {
			links: ptr.To(true), world: world{services: services}, want: master + own,
		},
		"the API server alone": {world: world{services: services}, want: master},
		"one's own API server": {
			links: ptr.To(true), world: world{services: map[string][]*corev1.Service{
				"default": services["default"], "n": {service("n", "kubernetes", "10.0.0.1", corev1.ServicePort{Port: 443}), service("n", "kubernetes", "10.0.0.1", corev1.ServicePort{Port: 443})},
			}}, want: master,
		},
		"references": {
			world: world{services: services},
			env: []corev1.EnvVar{
				{Name: "KUBERNETES_SERVICE_HOST", Value: "mine"},
				{Name: "ONE", Value: "1 $(TWO) $(KUBERNETES_SERVICE_HOST) $(KUBERNETES_SERVICE_PORT)"},
				{Name: "TWO", Value: "2 $(ONE) $$(ONE) $(NOBODY)"},
				{Name: "EMPTY"},
				{Name: "ONE", Value: "again $(EMPTY)."},
			},
			want: "KUBERNETES_SERVICE_HOST=mine\nONE=again .\nTWO=2 1 $(TWO) mine 443 $(ONE) $(NOBODY)\nEMPTY=\n" +
				strings.ReplaceAll(master, "KUBERNETES_SERVICE_HOST=10.0.0.1\n", ""),
		},
		"envFrom": {
			from: []corev1.EnvFromSource{
				{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: ref("config")}},
				{Prefix: "P_", SecretRef: &corev1.SecretEnvSource{LocalObjectReference: ref("secret")}},
				{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: ref("secret")}},
				{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: ref("nobody"), Optional: ptr.To(true)}},
				{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: ref("nobody"), Optional: ptr.To(true)}},
			},
			env:  []corev1.EnvVar{{Name: "S", Value: "$(B) is over $(A)"}},
			want: "A=first $(B)\nB=of secret\na.b-c=odd\nP_B=of secret\nP_S=hidden\nS=of secret is over first $(B)\n",
		},
		"names that are no identifiers": { // what a shell makes of them is its own affair
			from: []corev1.EnvFromSource{
				{Prefix: "1-", ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: ref("config")}},
				{Prefix: "$_-", SecretRef: &corev1.SecretEnvSource{LocalObjectReference: ref("secret")}},
				{Prefix: "#@!", SecretRef: &corev1.SecretEnvSource{LocalObjectReference: ref("secret")}},
			},
			env:  []corev1.EnvVar{{Name: "a-b c", Value: "$(1-a.b-c), $($_-S)"}},
			want: "1-A=first $(B)\n1-B=of config\n1-a.b-c=odd\n$_-B=of secret\n$_-S=hidden\n#@!B=of secret\n#@!S=hidden\na-b c=odd, hidden\n",
		},
		"keys": {
			env: []corev1.EnvVar{
				{Name: "C", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: ref("config"), Key: "B"}}},
				{Name: "S", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: ref("secret"), Key: "S"}}},
				{Name: "1", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: ref("config"), Key: "no", Optional: ptr.To(true)}}},
				{Name: "2", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: ref("secret"), Key: "no", Optional: ptr.To(true)}}},
				{Name: "3", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: ref("no"), Key: "no", Optional: ptr.To(true)}}},
				{Name: "4", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: ref("no"), Key: "no", Optional: ptr.To(true)}}},
			},
			want: "C=of config\nS=hidden\n",
		},
		"files": {
			env: []corev1.EnvVar{
				{Name: "A", ValueFrom: file("env", "KEY", false)},
				{Name: "B", ValueFrom: file("inner", "LONG", false)},
				{Name: "C", ValueFrom: file("env", "NOBODY", true)},
				{Name: "D", ValueFrom: file("env", "EMPTY", true)},
			},
			want: "A=value\nB=two\nlines\n",
		},
		"fields": {
			env: []corev1.EnvVar{
				{Name: "NAME", ValueFrom: field("metadata.name")},
				{Name: "NAMESPACE", ValueFrom: field("metadata.namespace")},
				{Name: "UID", ValueFrom: field("metadata.uid")},
				{Name: "NODE", ValueFrom: field("spec.nodeName")},
				{Name: "ACCOUNT", ValueFrom: field("spec.serviceAccountName")},
				{Name: "HOST", ValueFrom: field("status.hostIP")},
				{Name: "HOSTS", ValueFrom: field("status.hostIPs")},
				{Name: "IP", ValueFrom: field("status.podIP")},
				{Name: "IPS", ValueFrom: field("status.podIPs")},
				{Name: "LABEL", ValueFrom: field("metadata.labels['a/b']")},
				{Name: "LABELS", ValueFrom: field("metadata.labels")},
				{Name: "OLD", ValueFrom: field("spec.host")},
			},
			want: "NAME=p\nNAMESPACE=n\nUID=u\nNODE=node\nACCOUNT=me\nHOST=192.0.2.1\nHOSTS=192.0.2.1,fd00::1\nIP=10.1.0.5\nIPS=10.1.0.5,fd00::5\n" +
				"LABEL=c\nLABELS=a/b=\"c\"\nOLD=node\n",
		},
		"resources": {
			env: []corev1.EnvVar{
				{Name: "CPU", ValueFrom: amount("", "limits.cpu", "0")},
				{Name: "MILLI", ValueFrom: amount("", "requests.cpu", "1m")},
				{Name: "MEMORY", ValueFrom: amount("", "limits.memory", "1Mi")},
				{Name: "OTHERS", ValueFrom: amount("other", "limits.cpu", "0")},
				{Name: "INIT", ValueFrom: amount("init", "limits.cpu", "0")},
				{Name: "DISK", ValueFrom: amount("", "limits.ephemeral-storage", "1Gi")},
			},
			want: "CPU=2\nMILLI=1500\nMEMORY=8192\nOTHERS=4\nINIT=0\nDISK=100\n",
		},
		"resources of the pod": {
			pod: func(p *corev1.Pod) {
				p.Spec.Resources = &corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("3")}}
			},
			env:  []corev1.EnvVar{{Name: "OTHERS", ValueFrom: amount("other", "limits.cpu", "0")}, {Name: "MEMORY", ValueFrom: amount("", "limits.memory", "1Mi")}},
			want: "OTHERS=3\nMEMORY=8192\n",
		},
		"no ConfigMap": {
			from: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: ref("nobody")}}},
			err:  `configmaps "nobody" not found`,
		},
		"no Secret": {
			env: []corev1.EnvVar{{Name: "S", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: ref("nobody"), Key: "k"}}}},
			err: `secrets "nobody" not found`,
		},
		"no key in a ConfigMap": {
			env: []corev1.EnvVar{{Name: "S", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: ref("config"), Key: "k"}}}},
			err: `couldn't find key k in ConfigMap n/config`,
		},
		"no key in a Secret": {
			env: []corev1.EnvVar{{Name: "S", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: ref("secret"), Key: "k"}}}},
			err: `couldn't find key k in Secret n/secret`,
		},
		"optional, and nobody answers": {
			from:  []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: ref("secret"), Optional: ptr.To(true)}}},
			world: world{err: errors.New("timed out")}, err: "timed out",
		},
		"services are not known": {world: world{unknown: true}, err: "services have not yet been read at least once, cannot construct envvars"},
		"static pods do not wait for services": {
			world: world{unknown: true}, pod: func(p *corev1.Pod) {
				p.Annotations = map[string]string{kubetypes.ConfigSourceAnnotationKey: kubetypes.FileSource}
			},
		},
		"links are not said": {
			pod: func(p *corev1.Pod) { p.Spec.EnableServiceLinks = nil },
			err: "nil pod.spec.enableServiceLinks encountered, cannot construct envvars",
		},
		"no such field":     {env: []corev1.EnvVar{{Name: "F", ValueFrom: field("status.reason")}}, err: "field label not supported: status.reason"},
		"no volume":         {env: []corev1.EnvVar{{Name: "F", ValueFrom: &corev1.EnvVarSource{FileKeyRef: &corev1.FileKeySelector{VolumeName: "v"}}}}, err: `cannot find the volume "v" referenced by FileKeyRef`},
		"no key":            {env: []corev1.EnvVar{{Name: "F", ValueFrom: file("env", "NOBODY", false)}}, err: `environment variable key "NOBODY" not found in file "env"`},
		"bad file":          {env: []corev1.EnvVar{{Name: "F", ValueFrom: file("bad", "KEY", true)}}, err: "couldn't parse env file"},
		"long file":         {env: []corev1.EnvVar{{Name: "F", ValueFrom: file("long", "KEY", true)}}, err: "couldn't parse env file"},
		"file outside":      {env: []corev1.EnvVar{{Name: "F", ValueFrom: file("link", "KEY", false)}}, err: "couldn't parse env file"},
		"pipe":              {env: []corev1.EnvVar{{Name: "F", ValueFrom: file("fifo", "KEY", false)}}, err: "couldn't parse env file"},
		"no such container": {env: []corev1.EnvVar{{Name: "R", ValueFrom: amount("nobody", "limits.cpu", "0")}}, err: "container nobody not found"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p", UID: "u", Labels: map[string]string{"a/b": "c"}}}
			pod.Spec.NodeName, pod.Spec.ServiceAccountName, pod.Spec.EnableServiceLinks = "node", "me", ptr.To(tc.links != nil && *tc.links)
			pod.Spec.Containers = []corev1.Container{{Name: "c", EnvFrom: tc.from, Env: tc.env, Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1500m")}, Limits: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1500m")},
			}}, {Name: "other"}}
			pod.Spec.InitContainers = []corev1.Container{{Name: "init"}}
			if tc.pod != nil {
				tc.pod(pod)
			}
			got, err := Make(t.Context(), pod, &pod.Spec.Containers[0], []string{"fd00::5", "10.1.0.5", "10.1.0.6"}, &Sources{
				Objects: &tc.world, Services: &tc.world,
				NodeIPs: func() []netip.Addr {
					return []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("fd00::1")}
				},
				Allocatable: func() corev1.ResourceList {
					return corev1.ResourceList{
						corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi"), corev1.ResourceEphemeralStorage: resource.MustParse("100Gi"),
					}
				},
				VolumePath: func(_ *corev1.Pod, volume string) (string, bool) { return directory, volume == "facts" },
			})
			var want error
			if tc.err != "" {
				want = &podstatus.Waiting{Reason: "CreateContainerConfigError", Message: tc.err}
			}
			if diff := cmp.Diff(want, err); diff != "" {
				t.Fatalf("error: want -, got +:\n%s", diff)
			}
			text := ""
			for _, v := range got {
				text += fmt.Sprintf("%s=%s\n", v.Name, v.Value)
			}
			if diff := cmp.Diff(tc.want, text); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}
