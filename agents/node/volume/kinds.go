package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/kubernetes/pkg/volume/validation"
)

// hostPath are the node's own files. Nothing is done for them but to see that they are what the pod says.
type hostPath struct{}

func (*hostPath) Name() string { return "kubernetes.io/host-path" }

func (*hostPath) Supports(v *corev1.Volume) bool { return v.HostPath != nil }

func (*hostPath) SetUp(_ context.Context, v *Volume) (Mounted, error) {
	path := v.Spec.HostPath.Path
	if err := validation.ValidatePathNoBacksteps(path); err != nil {
		return Mounted{}, fmt.Errorf("invalid HostPath `%s`: %w", path, err)
	}
	kind := corev1.HostPathUnset
	if v.Spec.HostPath.Type != nil {
		kind = *v.Spec.HostPath.Type
	}
	if err := checkHostPath(path, kind); err != nil {
		return Mounted{}, err
	}
	return Mounted{Path: path}, nil
}

func (*hostPath) TearDown(context.Context, types.UID, string, string) error { return nil }

func checkHostPath(path string, kind corev1.HostPathType) error {
	var wanted os.FileMode
	var called string
	switch kind {
	case corev1.HostPathUnset:
		return nil
	case corev1.HostPathDirectoryOrCreate, corev1.HostPathDirectory:
		wanted, called = os.ModeDir, "directory"
	case corev1.HostPathFileOrCreate, corev1.HostPathFile:
		wanted, called = 0, "file"
	case corev1.HostPathSocket:
		wanted, called = os.ModeSocket, "socket file"
	case corev1.HostPathCharDev:
		wanted, called = os.ModeDevice|os.ModeCharDevice, "character device"
	case corev1.HostPathBlockDev:
		wanted, called = os.ModeDevice, "block device"
	default:
		return fmt.Errorf("%s is an invalid volume type", kind)
	}
	info, err := os.Stat(path)
	if os.IsNotExist(err) {
		switch kind {
		case corev1.HostPathDirectoryOrCreate:
			return os.MkdirAll(path, 0o755)
		case corev1.HostPathFileOrCreate:
			file, err := os.OpenFile(path, os.O_CREATE, 0o644)
			if err != nil {
				return err
			}
			return file.Close()
		}
	}
	if err != nil || info.Mode()&os.ModeType != wanted {
		return fmt.Errorf("hostPath type check failed: %s is not a %s", path, called)
	}
	return nil
}

// image are images. The runtime mounts them with each container.
type image struct{ images Images }

func (*image) Name() string { return "kubernetes.io/image" }

func (i *image) Supports(v *corev1.Volume) bool { return v.Image != nil && i.images != nil }

func (*image) SetUp(context.Context, *Volume) (Mounted, error) { return Mounted{ReadOnly: true}, nil }

func (*image) TearDown(context.Context, types.UID, string, string) error { return nil }

// unsupported names the kind of a volume that no plug-in supports.
func unsupported(v *corev1.Volume) error {
	source := reflect.ValueOf(v.VolumeSource)
	for i := range source.NumField() {
		if field := source.Field(i); field.Kind() == reflect.Pointer && !field.IsNil() {
			name, _, _ := strings.Cut(source.Type().Field(i).Tag.Get("json"), ",")
			return fmt.Errorf("volumes of kind %s are not supported on this node", name)
		}
	}
	return errors.New("no volume plugin matched")
}

// absolute is a path in a container.
func absolute(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return "/" + path
}
