package volume

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	upstream "k8s.io/kubernetes/pkg/volume"
	"k8s.io/kubernetes/pkg/volume/configmap"
	"k8s.io/kubernetes/pkg/volume/downwardapi"
	"k8s.io/kubernetes/pkg/volume/emptydir"
	"k8s.io/kubernetes/pkg/volume/projected"
	"k8s.io/kubernetes/pkg/volume/secret"
	volumetest "k8s.io/kubernetes/pkg/volume/testing"
	volumeutil "k8s.io/kubernetes/pkg/volume/util"
	"k8s.io/utils/ptr"
)

// kubelet sets the volumes of a pod up with upstream's plug-ins, and nothing mounted.
func kubelet(t *testing.T, root string, pod *corev1.Pod, has *api) {
	t.Helper()
	client := fake.NewClientset()
	for name, m := range has.configMaps {
		m = m.DeepCopy()
		m.Name, m.Namespace = name, pod.Namespace
		if _, err := client.CoreV1().ConfigMaps(pod.Namespace).Create(t.Context(), m, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for name, s := range has.secrets {
		s = s.DeepCopy()
		s.Name, s.Namespace = name, pod.Namespace
		if _, err := client.CoreV1().Secrets(pod.Namespace).Create(t.Context(), s, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	anchors := &certificatesv1beta1.ClusterTrustBundle{
		ObjectMeta: metav1.ObjectMeta{Name: "anchors"}, Spec: certificatesv1beta1.ClusterTrustBundleSpec{TrustBundle: "anchors"},
	}
	if _, err := client.CertificatesV1beta1().ClusterTrustBundles().Create(t.Context(), anchors, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	client.PrependReactor("create", "serviceaccounts", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, &authenticationv1.TokenRequest{Status: authenticationv1.TokenRequestStatus{Token: has.token}}, nil
	})
	plugins := slices.Concat(
		emptydir.ProbeVolumePlugins(), configmap.ProbeVolumePlugins(), secret.ProbeVolumePlugins(), downwardapi.ProbeVolumePlugins(), projected.ProbeVolumePlugins())
	host := volumetest.NewFakeKubeletVolumeHost(t, root, client, plugins)
	for i := range pod.Spec.Volumes {
		spec := upstream.NewSpecFromVolume(&pod.Spec.Volumes[i])
		plugin, err := host.GetPluginMgr().FindPluginBySpec(spec)
		if err != nil {
			t.Fatal(err)
		}
		mounter, err := plugin.NewMounter(spec, pod)
		if err != nil {
			t.Fatal(err)
		}
		if err := mounter.SetUp(upstream.MounterArgs{FsUser: volumeutil.FsUserFrom(pod), FsGroup: fsGroup(pod)}); err != nil {
			t.Fatal(err)
		}
	}
}

var stamp = regexp.MustCompile(`\.\.\d{4}_[\d_]+\.\d+`)

// describe tells what is in a directory: names, modes, owners, what is in files and where links lead.
func describe(t *testing.T, directory string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(directory, func(at string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(directory, at)
		mode := info.Mode()
		if slices.Contains([]string{"kubernetes.io~", "volumes", "plugins"}, filepath.Base(at)) || filepath.Dir(name) == "." || filepath.Dir(name) == "plugins" || filepath.Dir(name) == "volumes" {
			mode &= os.ModeType // ours let nobody else in
		}
		mode &^= os.ModeSticky // of memory that is mounted
		of := info.Sys().(*syscall.Stat_t)
		text := ""
		switch {
		case mode&os.ModeSymlink != 0:
			text, err = os.Readlink(at)
		case mode.IsRegular():
			var data []byte
			data, err = os.ReadFile(at)
			text = fmt.Sprintf("%q", data)
		}
		all = append(all, stamp.ReplaceAllString(fmt.Sprintf("%s %v %d:%d %s", name, mode, of.Uid, of.Gid, text), "STAMP"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(all, cmp.Compare[string])
	return all
}

// TestAgainstKubelet: what lies on the disk is what upstream's plug-ins put there, with names, modes, owners and links.
func TestAgainstKubelet(t *testing.T) {
	t.Parallel()
	needRoot(t)
	items := []corev1.KeyToPath{{Key: "a", Path: "deep/er/a", Mode: ptr.To[int32](0o600)}, {Key: "raw", Path: "raw"}}
	chosen := configMapVolume("chosen", "settings")
	chosen.ConfigMap.Items = items
	absent := configMapVolume("absent", "nobody")
	absent.ConfigMap.Optional = ptr.To(true)
	part := secretVolume("part", "keys")
	part.Secret.Optional, part.Secret.Items = ptr.To(true), []corev1.KeyToPath{{Key: "user", Path: "u"}, {Key: "nothing", Path: "n"}}
	fields := []corev1.DownwardAPIVolumeFile{
		{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}},
		{Path: "in/name", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}, Mode: ptr.To[int32](0o444)},
		{Path: "cpu", ResourceFieldRef: &corev1.ResourceFieldSelector{ContainerName: "main", Resource: "limits.cpu", Divisor: resource.MustParse("1m")}},
	}
	all := []corev1.Volume{
		emptyDirVolume("scratch"), configMapVolume("whole", "settings"), chosen, absent, secretVolume("keys", "keys"), part,
		{Name: "fields", VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: fields, DefaultMode: ptr.To[int32](0o644)}}},
		{Name: "mixed", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
			DefaultMode: ptr.To[int32](0o644), Sources: []corev1.VolumeProjection{
				{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}, Items: items}},
				{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "keys"}}},
				{DownwardAPI: &corev1.DownwardAPIProjection{Items: fields}},
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: ptr.To[int64](3600)}},
				{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{Name: ptr.To("anchors"), Path: "anchors.pem"}},
			},
		}}},
	}
	for name, security := range map[string]*corev1.PodSecurityContext{
		"nobody": nil,
		"user":   {RunAsUser: ptr.To[int64](1001)},
		"group":  {FSGroup: ptr.To[int64](2002)},
		"both":   {RunAsUser: ptr.To[int64](1001), FSGroup: ptr.To[int64](2002)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pod := newPod(all...)
			pod.Spec.SecurityContext = security
			pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("250m")}
			main := &pod.Spec.Containers[0]
			main.VolumeMounts = append(main.VolumeMounts, corev1.VolumeMount{Name: "scratch", MountPath: "/whole/nested/er"})
			theirs, ours := t.TempDir(), t.TempDir()
			kubelet(t, theirs, pod.DeepCopy(), newAPI())
			m := open(t, ours, nil)
			setUp(t, m, pod)
			below := filepath.Join("pods", string(uid))
			if diff := gocmp.Diff(describe(t, filepath.Join(theirs, below)), describe(t, filepath.Join(ours, below))); diff != "" {
				t.Errorf("kubelet -, agent +:\n%s", diff)
			}
			// An agent that comes after a kubelet finds nothing to do but to mount memory, which that one would have done.
			before := describe(t, filepath.Join(ours, below))
			setUp(t, open(t, ours, nil), pod)
			if diff := gocmp.Diff(before, describe(t, filepath.Join(ours, below))); diff != "" {
				t.Errorf("first agent -, second +:\n%s", diff)
			}
		})
	}
}
