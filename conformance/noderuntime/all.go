package noderuntime

import "testing"

// Images are all that there are, as Kubernetes' own tests want them.
func Images(t testing.TB) []*Image {
	t.Helper()
	var images []*Image
	for _, image := range []func(testing.TB) *Image{Pause, Busybox, Agnhost} {
		images = append(images, image(t))
	}
	return images
}
