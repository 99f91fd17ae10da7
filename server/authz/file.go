package authz

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/server/options/authorizationconfig/metrics"
	"k8s.io/apiserver/pkg/util/filesystem"
	upstream "k8s.io/kubernetes/pkg/kubeapiserver/authorizer"
)

// File is an AuthorizationConfiguration that is read again when it changes. What cannot be read or understood is logged,
// and what was in force stays in force.
type File struct {
	path string
	id   string // of the server, in metrics
	log  *slog.Logger
	into *Authorizer

	data     []byte
	required sets.Set[apiserver.AuthorizerType] // types that the file must go on naming
}

// reloadInterval is how often a file is looked at even when nothing tells of a change.
const reloadInterval = time.Minute

// OpenFile reads a file into an authorizer. Run keeps the two together.
func OpenFile(path, id string, into *Authorizer, log *slog.Logger) (*File, error) {
	f := &File{path: path, id: id, into: into, log: log}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	authorizers, err := f.load(data)
	if err != nil {
		return nil, err
	}
	f.required = sets.New[apiserver.AuthorizerType]()
	for _, a := range authorizers {
		f.required.Insert(a.Type)
	}
	f.required.Delete(apiserver.TypeWebhook)
	metrics.RegisterMetrics()
	metrics.RecordAuthorizationConfigLastConfigInfo(id, string(data))
	return f, nil
}

// load puts data in force.
func (f *File) load(data []byte) ([]apiserver.AuthorizerConfiguration, error) {
	config, err := upstream.LoadAndValidateData(data, f.into.compiler(), f.required)
	if err != nil {
		return nil, err
	}
	if err := f.into.Set(config.Authorizers); err != nil {
		return nil, err
	}
	f.data = data
	return config.Authorizers, nil
}

// Run reloads the file until ctx ends.
func (f *File) Run(ctx context.Context) error {
	filesystem.WatchUntil(ctx, reloadInterval, f.path, f.check, func(err error) {
		f.log.Warn("Watching the authorization configuration failed", "file", f.path, "err", err)
	})
	return nil
}

func (f *File) check() {
	data, err := os.ReadFile(f.path)
	if err == nil {
		if bytes.Equal(data, f.data) {
			return
		}
		_, err = f.load(data)
		f.data = data // what is wrong with it does not change until it does
	}
	if err != nil {
		metrics.RecordAuthorizationConfigAutomaticReloadFailure(f.id)
		f.log.Error("Authorization configuration was not reloaded", "file", f.path, "err", fmt.Errorf("reload: %w", err))
		return
	}
	metrics.RecordAuthorizationConfigAutomaticReloadSuccess(f.id, string(data))
	f.log.Info("Authorization configuration was reloaded", "file", f.path)
}
