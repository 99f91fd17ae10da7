package scheduler

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/go-logr/logr"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/kubernetes/pkg/scheduler"
	"k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/latest"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/scheme"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/validation"
	"sigs.k8s.io/yaml"
)

// Load reads a KubeSchedulerConfiguration; an empty path gives upstream's defaults.
func Load(path string) (*config.KubeSchedulerConfiguration, error) {
	if path == "" {
		return latest.Default()
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	obj, gvk, err := scheme.Codecs.UniversalDecoder().Decode(data, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	c, ok := obj.(*config.KubeSchedulerConfiguration)
	if !ok {
		return nil, fmt.Errorf("%s: couldn't decode as KubeSchedulerConfiguration, got %s: ", path, gvk)
	}
	c.APIVersion = gvk.GroupVersion().String()
	if err := validation.ValidateKubeSchedulerConfiguration(c); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// ofProcess are the fields that are about a process of the scheduler's own: how it reaches a server, serves and is elected.
var ofProcess = []string{
	"clientConnection", "delayCacheUntilActive", "enableContentionProfiling", "enableProfiling", "healthzBindAddress", "leaderElection",
	"metricsBindAddress",
}

// Ignored names what a file says that means nothing to Run.
func Ignored(path string) ([]string, error) {
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var said map[string]any
	if err := yaml.Unmarshal(data, &said); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return slices.DeleteFunc(slices.Clone(ofProcess), func(name string) bool { _, ok := said[name]; return !ok }), nil
}

// Check finds what is wrong with a configuration beyond what upstream validates, such as plug-ins that do not exist: it makes
// a scheduler that never runs.
func Check(c *config.KubeSchedulerConfiguration) error {
	nowhere := &rest.Config{Host: "http://nowhere.invalid"}
	client, err := kubernetes.NewForConfig(nowhere)
	if err != nil {
		return err
	}
	dyn, err := dynamic.NewForConfig(nowhere)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(logr.NewContext(context.Background(), logr.Discard()))
	defer stop()
	_, finish, err := newScheduler(ctx, Config{
		Scheduler: *c, Client: client, Rest: nowhere,
		Informers: scheduler.NewInformerFactory(client, 0), Dynamic: dynamicinformer.NewDynamicSharedInformerFactory(dyn, 0),
	})
	if err == nil {
		finish()
	}
	return err
}
