package authn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/install"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"
	authenticationcel "k8s.io/apiserver/pkg/authentication/cel"
	"k8s.io/apiserver/pkg/server/options/authenticationconfig/metrics"
	"k8s.io/apiserver/pkg/util/filesystem"
)

// File is an AuthenticationConfiguration. What it says of issuers is followed when it changes; whom it takes for anonymous
// is settled at the start, as upstream has it.
type File struct {
	path, id string
	taken    []string // issuers that it may not name
	log      *slog.Logger

	data   []byte
	config *apiserver.AuthenticationConfiguration
}

// reloadInterval is how often a file is looked at even when nothing tells of a change.
const reloadInterval = time.Minute

// OpenFile reads a file. It may not name the issuers that are taken.
func OpenFile(path, id string, taken []string, log *slog.Logger) (*File, error) {
	f := &File{path: path, id: id, taken: taken, log: log}
	var err error
	if f.data, err = os.ReadFile(path); err != nil {
		return nil, err
	}
	if f.config, err = f.parse(f.data); err != nil {
		return nil, err
	}
	metrics.RegisterMetrics()
	metrics.RecordAuthenticationConfigLastConfigInfo(id, string(f.data))
	return f, nil
}

// Config is what the file said when it was opened.
func (f *File) Config() *apiserver.AuthenticationConfiguration { return f.config }

func (f *File) parse(data []byte) (*apiserver.AuthenticationConfiguration, error) {
	if len(data) == 0 {
		return nil, errors.New("empty config data")
	}
	scheme := runtime.NewScheme()
	install.Install(scheme)
	obj, err := runtime.Decode(serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDecoder(), data)
	if err != nil {
		return nil, err
	}
	config, ok := obj.(*apiserver.AuthenticationConfiguration)
	if !ok {
		return nil, fmt.Errorf("expected AuthenticationConfiguration, got %T", obj)
	}
	errs := validation.ValidateAuthenticationConfiguration(authenticationcel.NewDefaultCompiler(), config, f.taken)
	if f.config != nil && !reflect.DeepEqual(f.config.Anonymous, config.Anonymous) {
		errs = append(errs, field.Forbidden(field.NewPath("anonymous"), "changed from initial configuration file"))
	}
	return config, errs.ToAggregate()
}

// follow calls replace with what the file says whenever that has changed, until ctx ends. When replace fails it is tried
// again; what is wrong with the file itself is said once.
func (f *File) follow(ctx context.Context, replace func(context.Context, []apiserver.JWTAuthenticator) error) {
	check := func() {
		data, err := os.ReadFile(f.path)
		if err == nil {
			if bytes.Equal(data, f.data) {
				return
			}
			var config *apiserver.AuthenticationConfiguration
			if config, err = f.parse(data); err != nil {
				f.data = data
			} else if err = replace(ctx, config.JWT); err == nil {
				f.data = data
			}
		}
		if err != nil {
			metrics.RecordAuthenticationConfigAutomaticReloadFailure(f.id)
			f.log.Error("Authentication configuration was not reloaded", "file", f.path, "err", err)
			return
		}
		metrics.RecordAuthenticationConfigAutomaticReloadSuccess(f.id, string(data))
		f.log.Info("Authentication configuration was reloaded", "file", f.path)
	}
	filesystem.WatchUntil(ctx, reloadInterval, f.path, check, func(err error) {
		f.log.Warn("Watching the authentication configuration failed", "file", f.path, "err", err)
	})
}
