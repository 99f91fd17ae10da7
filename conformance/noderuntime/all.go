package noderuntime

import "testing"

// CommonImages are what most of Kubernetes' own tests make do with.
func CommonImages(t testing.TB) []*Image { return made(t, Pause, Busybox, Agnhost) }

// Images are all that there are.
func Images(t testing.TB) []*Image { return append(CommonImages(t), made(t, PreviousAgnhost)...) }

func made(t testing.TB, makers ...func(testing.TB) *Image) []*Image {
	t.Helper()
	images := make([]*Image, len(makers))
	for i, make := range makers {
		images[i] = make(t)
	}
	return images
}
