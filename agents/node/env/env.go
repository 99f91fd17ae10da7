// Package env says what a container finds around it: its environment, its host's name, /etc/hosts, and who answers its questions for
// names. All is as the kubelet of Kubernetes 1.36 has it, but for the order of variables, which is always the same here.
package env

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/kubelet/envvars"
	kubetypes "k8s.io/kubernetes/pkg/kubelet/types"
	envutil "k8s.io/kubernetes/pkg/kubelet/util/env"
	"k8s.io/kubernetes/third_party/forked/golang/expansion"

	"github.com/rowlock-io/rowlock/agents/node/podstatus"
)

// Sources are where values come from.
type Sources struct {
	Objects  Objects
	Services ServiceLister
	// NodeIPs are the node's addresses, the primary one first.
	NodeIPs func() []netip.Addr
	// Allocatable is what the node has for pods: the limit of who has none. nil: it is not known yet.
	Allocatable func() corev1.ResourceList
	// VolumePath is the directory of a pod's volume on the node; false: there is none.
	VolumePath func(pod *corev1.Pod, volume string) (string, bool)
}

// Objects are those that the node's pods refer to.
type Objects interface {
	ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error)
	Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error)
}

// ServiceLister knows the services of a namespace that have an address; false: not yet.
type ServiceLister interface {
	Services(namespace string) ([]*corev1.Service, bool)
}

// master is the service that every pod is told of.
const master = "kubernetes"

// Make returns a container's environment: what envFrom has, sorted, env in its own order, and what tells of services, sorted. The pod's
// addresses are those of its sandbox or, in the node's network, of its status. The error is a *podstatus.Waiting; its event is the
// caller's.
func Make(ctx context.Context, pod *corev1.Pod, c *corev1.Container, ips []string, s *Sources) ([]kubecontainer.EnvVar, error) {
	m := &maker{Sources: s, pod: pod, container: c, ips: ips, values: map[string]string{}}
	vars, err := m.make(ctx)
	if waiting := (*podstatus.Waiting)(nil); errors.As(err, &waiting) {
		return nil, waiting
	}
	if err != nil {
		return nil, &podstatus.Waiting{Reason: "CreateContainerConfigError", Message: err.Error()}
	}
	return vars, nil
}

// maker makes the environment of one container.
type maker struct {
	*Sources
	pod       *corev1.Pod
	container *corev1.Container
	ips       []string

	values map[string]string
	order  []string // of the names of values
	expand func(string) string

	configMaps map[string]*corev1.ConfigMap // asked for once each
	secrets    map[string]*corev1.Secret
}

func (m *maker) set(name, value string) {
	if _, ok := m.values[name]; !ok {
		m.order = append(m.order, name)
	}
	m.values[name] = value
}

func (m *maker) make(ctx context.Context) ([]kubecontainer.EnvVar, error) {
	services, err := m.services()
	if err != nil {
		return nil, err
	}
	for i := range m.container.EnvFrom {
		if err := m.all(ctx, &m.container.EnvFrom[i]); err != nil {
			return nil, err
		}
	}
	m.expand = expansion.MappingFuncFor(m.values, services)
	for i := range m.container.Env {
		v := &m.container.Env[i]
		value, ok, err := m.value(ctx, v)
		if err != nil {
			return nil, err
		}
		if ok {
			m.set(v.Name, value)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(services)) {
		if _, ok := m.values[name]; !ok {
			m.set(name, services[name])
		}
	}
	vars := make([]kubecontainer.EnvVar, 0, len(m.order))
	for _, name := range m.order {
		vars = append(vars, kubecontainer.EnvVar{Name: name, Value: m.values[name]})
	}
	return vars, nil
}

// services are the variables that tell of services: of the API server, and of the pod's namespace if it wants to be told.
func (m *maker) services() (map[string]string, error) {
	links := m.pod.Spec.EnableServiceLinks
	if links == nil {
		return nil, errors.New("nil pod.spec.enableServiceLinks encountered, cannot construct envvars")
	}
	byName := map[string]*corev1.Service{}
	defaults, known := m.Services.Services(metav1.NamespaceDefault)
	for _, s := range defaults {
		if s.Name == master {
			byName[s.Name] = s
		}
	}
	if *links {
		var own []*corev1.Service
		own, known = m.Services.Services(m.pod.Namespace)
		for _, s := range own {
			byName[s.Name] = s
		}
	}
	if !known && !kubetypes.IsStaticPod(m.pod) { // an API server that sent the pod will send the services
		return nil, errors.New("services have not yet been read at least once, cannot construct envvars")
	}
	vars := map[string]string{}
	for _, v := range envvars.FromServices(slices.Collect(maps.Values(byName))) {
		vars[v.Name] = v.Value
	}
	return vars, nil
}

// all sets all values of an object.
func (m *maker) all(ctx context.Context, from *corev1.EnvFromSource) error {
	values := map[string]string{}
	switch {
	case from.ConfigMapRef != nil:
		object, err := m.configMap(ctx, from.ConfigMapRef.Name, from.ConfigMapRef.Optional)
		if object == nil {
			return err
		}
		values = object.Data
	case from.SecretRef != nil:
		object, err := m.secret(ctx, from.SecretRef.Name, from.SecretRef.Optional)
		if object == nil {
			return err
		}
		for k, v := range object.Data {
			values[k] = string(v)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		m.set(from.Prefix+key, values[key])
	}
	return nil
}

// value is that of one variable; false: it is not set.
func (m *maker) value(ctx context.Context, v *corev1.EnvVar) (value string, set bool, err error) {
	from := v.ValueFrom
	switch {
	case v.Value != "":
		return expansion.Expand(v.Value, m.expand), true, nil
	case from == nil:
		return "", true, nil
	case from.FieldRef != nil:
		value, err = m.field(from.FieldRef)
		return value, true, err
	case from.ResourceFieldRef != nil:
		value, err = m.resource(from.ResourceFieldRef)
		return value, true, err
	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		object, err := m.configMap(ctx, ref.Name, ref.Optional)
		if object == nil {
			return "", false, err
		}
		value, ok := object.Data[ref.Key]
		if !ok && !isTrue(ref.Optional) {
			err = fmt.Errorf("couldn't find key %v in ConfigMap %v/%v", ref.Key, m.pod.Namespace, ref.Name)
		}
		return value, ok, err
	case from.SecretKeyRef != nil:
		ref := from.SecretKeyRef
		object, err := m.secret(ctx, ref.Name, ref.Optional)
		if object == nil {
			return "", false, err
		}
		value, ok := object.Data[ref.Key]
		if !ok && !isTrue(ref.Optional) {
			err = fmt.Errorf("couldn't find key %v in Secret %v/%v", ref.Key, m.pod.Namespace, ref.Name)
		}
		return string(value), ok, err
	case from.FileKeyRef != nil:
		return m.fileKey(from.FileKeyRef)
	}
	return "", true, nil
}

func isTrue(b *bool) bool { return b != nil && *b }

// configMap is nil, with no error, where it need not be there and is not.
func (m *maker) configMap(ctx context.Context, name string, optional *bool) (*corev1.ConfigMap, error) {
	if object, ok := m.configMaps[name]; ok {
		return object, nil
	}
	object, err := m.Objects.ConfigMap(ctx, m.pod.Namespace, name)
	if err != nil {
		return nil, unless(isTrue(optional), err)
	}
	if m.configMaps == nil {
		m.configMaps = map[string]*corev1.ConfigMap{}
	}
	m.configMaps[name] = object
	return object, nil
}

// secret is nil, with no error, where it need not be there and is not.
func (m *maker) secret(ctx context.Context, name string, optional *bool) (*corev1.Secret, error) {
	if object, ok := m.secrets[name]; ok {
		return object, nil
	}
	object, err := m.Objects.Secret(ctx, m.pod.Namespace, name)
	if err != nil {
		return nil, unless(isTrue(optional), err)
	}
	if m.secrets == nil {
		m.secrets = map[string]*corev1.Secret{}
	}
	m.secrets[name] = object
	return object, nil
}

func unless(optional bool, err error) error {
	if optional && apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// fileKey is a value that a container wrote into a file (KEP-3721). The file is opened below its volume, wherever links in it lead.
func (m *maker) fileKey(ref *corev1.FileKeySelector) (string, bool, error) {
	directory, ok := m.VolumePath(m.pod, ref.VolumeName)
	if !ok {
		return "", false, fmt.Errorf("cannot find the volume %q referenced by FileKeyRef", ref.VolumeName)
	}
	value, err := readKey(directory, ref.Path, ref.Key)
	switch {
	case err != nil: // which names the node's directories
		return "", false, errors.New("couldn't parse env file")
	case value == "" && isTrue(ref.Optional):
		return "", false, nil
	case value == "":
		return "", false, fmt.Errorf("environment variable key %q not found in file %q", ref.Key, ref.Path)
	}
	return value, true, nil
}

// longestFile is more than any environment can hold.
const longestFile = 1 << 20

// readKey copies the file before upstream parses it, so that who writes it cannot change what is read, nor how much.
func readKey(directory, path, key string) (string, error) {
	root, err := os.OpenRoot(directory)
	if err != nil {
		return "", err
	}
	defer func() { _ = root.Close() }()
	file, err := root.OpenFile(strings.TrimPrefix(path, "/"), os.O_RDONLY|unix.O_NONBLOCK, 0) // or a pipe would make us wait
	if err != nil {
		return "", err
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", errors.Join(err, errors.New("not a file"))
	}
	content, err := io.ReadAll(io.LimitReader(file, longestFile+1))
	if err != nil || len(content) > longestFile {
		return "", errors.Join(err, errors.New("too long"))
	}
	fd, err := unix.MemfdCreate("env", unix.MFD_CLOEXEC)
	if err != nil {
		return "", err
	}
	parsed := os.NewFile(uintptr(fd), "env")
	defer parsed.Close()
	if _, err := parsed.Write(content); err != nil {
		return "", err
	}
	return envutil.ParseEnv(fmt.Sprintf("/proc/self/fd/%d", fd), key)
}
