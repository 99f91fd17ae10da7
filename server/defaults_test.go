package server_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What a strategy clears before the write is defaulted again in what is stored, in the reply to the write and in all
// later reads: upstream defaults at every decoding.
func TestDefaultsOfClearedFields(t *testing.T) {
	claims := shared.Client(t, "default").CoreV1().PersistentVolumeClaims("default")
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "defaults-"},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	}
	created, err := claims.Create(t.Context(), claim, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	read, err := claims.Get(t.Context(), created.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	read.Labels = map[string]string{"a": "b"}
	updated, err := claims.Update(t.Context(), read, metav1.UpdateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]*corev1.PersistentVolumeClaim{"created": created, "read": read, "updated": updated} {
		if c.Status.Phase != corev1.ClaimPending || c.Spec.VolumeMode == nil {
			t.Errorf("%s: phase %q, volume mode %v", what, c.Status.Phase, c.Spec.VolumeMode)
		}
	}
}
