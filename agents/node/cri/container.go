package cri

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/kubelet/util/format"
	"k8s.io/kubernetes/pkg/security/apparmor"
	"k8s.io/kubernetes/pkg/securitycontext"
)

// Config is the container as it is asked for. Errors are upstream's, for the pod's status.
func (c *Container) Config() (*runtimeapi.ContainerConfig, error) {
	if err := c.verifyNonRoot(); err != nil {
		return nil, err
	}
	security, err := c.security()
	if err != nil {
		return nil, err
	}
	command, args := kubecontainer.ExpandContainerCommandAndArgs(c.Spec, c.Envs)
	config := &runtimeapi.ContainerConfig{
		Metadata:    &runtimeapi.ContainerMetadata{Name: c.Spec.Name, Attempt: uint32(c.Attempt)},
		Image:       &runtimeapi.ImageSpec{Image: c.Image, UserSpecifiedImage: c.Spec.Image},
		Command:     command,
		Args:        args,
		WorkingDir:  c.Spec.WorkingDir,
		Labels:      c.labels(),
		Annotations: c.annotations(),
		Devices:     c.Devices,
		Mounts:      c.Mounts,
		LogPath:     LogPath(c.Spec.Name, c.Attempt),
		Stdin:       c.Spec.Stdin,
		StdinOnce:   c.Spec.StdinOnce,
		Tty:         c.Spec.TTY,
		Linux:       &runtimeapi.LinuxContainerConfig{Resources: c.Resources(), SecurityContext: security},
	}
	for _, e := range c.Envs {
		config.Envs = append(config.Envs, &runtimeapi.KeyValue{Key: e.Name, Value: []byte(e.Value)})
	}
	if c.Users != nil {
		for _, m := range config.Mounts {
			m.UidMappings, m.GidMappings = c.Users.GetUids(), c.Users.GetGids()
		}
	}
	return config, nil
}

func (c *Container) security() (*runtimeapi.LinuxContainerSecurityContext, error) {
	effective := securitycontext.DetermineEffectiveSecurityContext(c.Pod.Pod, c.Spec)
	to := &runtimeapi.LinuxContainerSecurityContext{
		SelinuxOptions:   selinux(effective.SELinuxOptions),
		NamespaceOptions: c.namespaces(),
		NoNewPrivs:       securitycontext.AddNoNewPrivileges(effective),
		MaskedPaths:      securitycontext.ConvertToRuntimeMaskedPaths(effective.ProcMount),
		ReadonlyPaths:    securitycontext.ConvertToRuntimeReadonlyPaths(effective.ProcMount),
		Privileged:       effective.Privileged != nil && *effective.Privileged,
		ReadonlyRootfs:   effective.ReadOnlyRootFilesystem != nil && *effective.ReadOnlyRootFilesystem,
	}
	if effective.Capabilities != nil {
		to.Capabilities = &runtimeapi.Capability{
			AddCapabilities: texts(effective.Capabilities.Add), DropCapabilities: texts(effective.Capabilities.Drop),
		}
	}
	switch {
	case effective.RunAsUser != nil:
		to.RunAsUser = &runtimeapi.Int64Value{Value: *effective.RunAsUser}
	case c.UID != nil:
		to.RunAsUser = &runtimeapi.Int64Value{Value: *c.UID}
	default:
		to.RunAsUsername = c.Username
	}
	if effective.RunAsGroup != nil {
		to.RunAsGroup = &runtimeapi.Int64Value{Value: *effective.RunAsGroup}
	}
	if c.Target != "" && to.NamespaceOptions.Pid == runtimeapi.NamespaceMode_CONTAINER {
		to.NamespaceOptions.Pid, to.NamespaceOptions.TargetId = runtimeapi.NamespaceMode_TARGET, c.Target
	}
	var err error
	if to.SupplementalGroups, to.SupplementalGroupsPolicy, err = c.groups(); err != nil {
		return nil, err
	}
	if to.Seccomp, err = c.seccomp(); err != nil {
		return nil, err
	}
	to.Apparmor, to.ApparmorProfile, err = c.apparmor() //nolint:staticcheck // runtimes that know only the old field are served
	return to, err
}

func texts(names []corev1.Capability) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = string(n)
	}
	return out
}

func selinux(o *corev1.SELinuxOptions) *runtimeapi.SELinuxOption {
	if o == nil {
		return nil
	}
	return &runtimeapi.SELinuxOption{User: o.User, Role: o.Role, Type: o.Type, Level: o.Level}
}

// seccomp is the container's profile, or else the pod's, or else the node's.
func (c *Container) seccomp() (*runtimeapi.SecurityProfile, error) {
	var profile *corev1.SeccompProfile
	if sc := c.Pod.Spec.SecurityContext; sc != nil {
		profile = sc.SeccompProfile
	}
	if sc := c.Spec.SecurityContext; sc != nil && sc.SeccompProfile != nil {
		profile = sc.SeccompProfile
	}
	of := runtimeapi.SecurityProfile_Unconfined
	switch {
	case profile == nil && c.SeccompDefault, profile != nil && profile.Type == corev1.SeccompProfileTypeRuntimeDefault:
		of = runtimeapi.SecurityProfile_RuntimeDefault
	case profile != nil && profile.Type == corev1.SeccompProfileTypeLocalhost:
		if profile.LocalhostProfile == nil || *profile.LocalhostProfile == "" {
			return nil, errors.New("localhostProfile must be set if seccompProfile type is Localhost.") //nolint:staticcheck // upstream's
		}
		ref := filepath.Join(c.SeccompRoot, *profile.LocalhostProfile)
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: ref}, nil
	}
	return &runtimeapi.SecurityProfile{ProfileType: of}, nil
}

func (c *Container) apparmor() (*runtimeapi.SecurityProfile, string, error) {
	profile := apparmor.GetProfile(c.Pod.Pod, c.Spec)
	if profile == nil {
		return nil, "", nil
	}
	switch profile.Type {
	case corev1.AppArmorProfileTypeRuntimeDefault:
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}, corev1.DeprecatedAppArmorBetaProfileRuntimeDefault, nil
	case corev1.AppArmorProfileTypeUnconfined:
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}, corev1.DeprecatedAppArmorBetaProfileNameUnconfined, nil
	case corev1.AppArmorProfileTypeLocalhost:
		if profile.LocalhostProfile == nil {
			return nil, "", errors.New("missing localhost apparmor profile name")
		}
		name := *profile.LocalhostProfile
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: name},
			corev1.DeprecatedAppArmorBetaProfileNamePrefix + name, nil
	default:
		return nil, "", fmt.Errorf("unknown apparmor profile type: %q", profile.Type)
	}
}

// verifyNonRoot refuses what would be root, or might be, where the pod forbids it.
func (c *Container) verifyNonRoot() error {
	effective := securitycontext.DetermineEffectiveSecurityContext(c.Pod.Pod, c.Spec)
	if effective.RunAsNonRoot == nil || !*effective.RunAsNonRoot {
		return nil
	}
	who := fmt.Sprintf("(pod: %q, container: %s)", format.Pod(c.Pod.Pod), c.Spec.Name)
	switch {
	case effective.RunAsUser != nil && *effective.RunAsUser == 0:
		return fmt.Errorf("container's runAsUser breaks non-root policy %s", who)
	case effective.RunAsUser != nil:
		return nil
	case c.UID == nil && c.Username != "":
		return fmt.Errorf("container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root %s", c.Username, who)
	case c.UID == nil:
		return nil
	case *c.UID == 0:
		return fmt.Errorf("container has runAsNonRoot and image will run as root %s", who)
	}
	if problems := validation.IsValidUserID(*c.UID); len(problems) > 0 {
		return fmt.Errorf("container has runAsNonRoot and image has an invalid user id (%d). (Must be 1-(%d)): %s %s",
			*c.UID, math.MaxInt32, strings.Join(problems, "; "), who)
	}
	return nil
}
