package admission

import (
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
)

// TestNobodyWatchesWhatThereIsMuchOf: an informer of pods would decode all of a cluster's at each start, and keep them twice.
func TestNobodyWatchesWhatThereIsMuchOf(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset()
	factory := informers.NewSharedInformerFactory(client, 0)
	_, err := New(Config{
		Client: client, Dynamic: dynamicfake.NewSimpleDynamicClient(runtime.NewScheme()), Informers: factory,
		Mapper: meta.NewDefaultRESTMapper(nil), Authorizer: authorizerfactory.NewAlwaysAllowAuthorizer(), Done: t.Context().Done(),
		Count: func(string) int { return 0 }, Start: func() {},
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	close(ended)
	factory.Start(ended)
	defer factory.Shutdown()
	watched := factory.WaitForCacheSync(ended) // of all informers that were asked for
	if _, ok := watched[reflect.TypeFor[*corev1.Namespace]()]; !ok {
		t.Fatalf("of %v nothing is what plug-ins watch", watched)
	}
	for _, much := range []reflect.Type{
		reflect.TypeFor[*corev1.Pod](), reflect.TypeFor[*corev1.PersistentVolume](),
		reflect.TypeFor[*corev1.Secret](), reflect.TypeFor[*corev1.ConfigMap](),
	} {
		if _, ok := watched[much]; ok {
			t.Errorf("%v are watched", much)
		}
	}
}
