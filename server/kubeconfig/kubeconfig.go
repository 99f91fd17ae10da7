// Package kubeconfig tells kubectl how to reach a cluster, by an entry in the user's kubeconfig file.
//
// The file belongs to the user. Whatever is in it stays: an entry of the wanted name that points elsewhere makes ours
// take another name, the current context changes only when there is none or when asked, and a file that cannot be
// understood as a whole is not written at all. Comments and the order of entries are lost, as they are when kubectl
// changes the file.
package kubeconfig

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

var (
	// ErrNotUnderstood: the file is not a kubeconfig, or holds something that writing it would lose. It was not touched.
	ErrNotUnderstood = errors.New("kubeconfig: file not understood")
	// ErrLocked: another program is writing the file, or died while it was.
	ErrLocked = errors.New("kubeconfig: file is locked")
)

// Entry is a cluster, and the user to reach it as.
type Entry struct {
	Name   string // of the context, the cluster and the user, with a number behind it when that is taken
	Server string // URL
	CA     []byte // PEM
	Cert   []byte // PEM, of the user
	Key    []byte // PEM, of the user
	// Own has clients ask for the certificate that CA issued, by OwnName: others see another one.
	Own bool
}

// OwnName is a name that no certificate but the cluster's own is for.
const OwnName = "own.rowlock.internal"

// File says where to write.
type File struct {
	Path string
	// Others are further files that kubectl reads together with Path. Names in them are taken, too.
	Others []string
}

// Result says what was written.
type Result struct {
	Path    string
	Context string
	Current bool // the context is what kubectl uses when it is told nothing
}

// Default is the file that kubectl writes new entries to: the first of $KUBECONFIG, or .kube/config in the home directory.
func Default() (File, error) {
	var paths []string
	for _, p := range filepath.SplitList(os.Getenv(clientcmd.RecommendedConfigPathEnvVar)) {
		if p != "" && !slices.Contains(paths, p) {
			paths = append(paths, p)
		}
	}
	if len(paths) > 0 {
		return File{Path: paths[0], Others: paths[1:]}, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return File{}, fmt.Errorf("find the kubeconfig file: %w", err)
	}
	return File{Path: filepath.Join(home, clientcmd.RecommendedHomeDir, clientcmd.RecommendedFileName)}, nil
}

// Write merges the entry into the file, which it makes when it is missing, readable by its owner only. It becomes the
// current context when there is none, when it was before, or when makeCurrent says so. The file is replaced as a whole:
// readers see it as it was or as it is then.
func Write(ctx context.Context, file File, entry Entry, makeCurrent bool) (Result, error) {
	target, err := resolve(file.Path)
	if err != nil {
		return Result{}, fmt.Errorf("kubeconfig %s: %w", file.Path, err)
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
		return Result{}, fmt.Errorf("kubeconfig %s: %w", file.Path, err)
	}
	unlock, err := lock(ctx, file.Path, target)
	if err != nil {
		return Result{}, err
	}
	defer unlock()

	config, err := load(target)
	if err != nil {
		return Result{}, fmt.Errorf("kubeconfig %s: %w", file.Path, err)
	}
	before := config.DeepCopy()
	others := loadOthers(file.Others)
	name := entry.pickName(config, others)
	entry.put(config, name)
	if makeCurrent || config.CurrentContext == "" && !slices.ContainsFunc(others, hasCurrent) {
		config.CurrentContext = name
	}
	result := Result{Path: file.Path, Context: name, Current: config.CurrentContext == name}
	if reflect.DeepEqual(before, config) {
		return result, nil
	}
	data, err := clientcmd.Write(*config)
	if err != nil {
		return Result{}, fmt.Errorf("kubeconfig %s: %w", file.Path, err)
	}
	if err := replace(target, data); err != nil {
		return Result{}, fmt.Errorf("kubeconfig %s: %w", file.Path, err)
	}
	return result, nil
}

func hasCurrent(c *api.Config) bool { return c.CurrentContext != "" }

// load reads the file that is to be written. A missing one is empty.
func load(path string) (*api.Config, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return api.NewConfig(), nil
	}
	if err != nil {
		return nil, err
	}
	config, err := clientcmd.Load(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotUnderstood, err)
	}
	if err := checkLossless(data, config); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotUnderstood, err)
	}
	return config, nil
}

// loadOthers reads the files that are only looked at. What cannot be read takes no names.
func loadOthers(paths []string) []*api.Config {
	var configs []*api.Config
	for _, path := range paths {
		if config, err := clientcmd.LoadFromFile(path); err == nil {
			configs = append(configs, config)
		}
	}
	return configs
}
