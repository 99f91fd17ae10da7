package source

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	podutil "k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/apis/core/helper"
	corev1conversion "k8s.io/kubernetes/pkg/apis/core/v1"
	"k8s.io/kubernetes/pkg/apis/core/validation"
	kubetypes "k8s.io/kubernetes/pkg/kubelet/types"
	"k8s.io/kubernetes/pkg/util/hash"

	_ "k8s.io/kubernetes/pkg/apis/core/install" // what files have is decoded with it
)

const (
	filePeriod = 20 * time.Second       // whatever the kernel tells of the directory
	fileSettle = 100 * time.Millisecond // whoever writes a file writes often
	maxFile    = 10 << 20
)

// watchFiles keeps to what the directory has.
func (s *Source) watchFiles(ctx context.Context) {
	tick := time.NewTicker(filePeriod)
	defer tick.Stop()
	var changes chan fsnotify.Event // nil: nobody tells
	var problems chan error
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		s.Log.Warn("Directory of static pods is not watched, and is read from time to time", "error", err)
	} else {
		defer func() { _ = watcher.Close() }()
		changes, problems = watcher.Events, watcher.Errors
	}
	settle := time.NewTimer(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-settle.C:
		case _, open := <-changes:
			if !open {
				changes, problems = nil, nil
			}
			settle.Reset(fileSettle)
			continue
		case err, open := <-problems:
			if !open {
				problems = nil
			}
			s.Log.Debug("Watch of the directory of static pods failed", "error", err)
			continue
		}
		if changes != nil && len(watcher.WatchList()) == 0 {
			_ = watcher.Add(s.Directory) // it may come later
		}
		s.readFiles()
	}
}

// readFiles takes what the directory has now.
func (s *Source) readFiles() {
	there, at := map[types.UID]*corev1.Pod{}, map[types.UID]string{}
	paths, err := filepath.Glob(filepath.Join(s.Directory, "[^.]*"))
	if err != nil {
		s.Log.Warn("Directory of static pods was not read", "error", err)
		return
	}
	for _, path := range paths {
		pod, err := s.readFile(path)
		switch {
		case errors.Is(err, os.ErrNotExist), errors.Is(err, errNoFile):
		case err != nil:
			s.Log.Error("File of a static pod was not understood", "path", path, "error", err)
			s.known.RLock()
			if old := s.known.static[s.paths[path]]; old != nil { // half a file does not end a pod
				there[old.UID], at[old.UID] = old, path
			}
			s.known.RUnlock()
		default:
			there[pod.UID], at[pod.UID], s.paths[path] = pod, path, pod.UID
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known.Lock()
	var left []types.UID
	for uid := range s.known.static {
		if there[uid] == nil {
			left = append(left, uid)
		}
	}
	s.known.Unlock()
	for _, uid := range left {
		s.unwant(uid)
		s.known.Lock()
		delete(s.known.static, uid)
		s.known.Unlock()
	}
	// Of two pods with one name the first one runs: that is the one that ran before, or else that of the first file.
	pods := slices.SortedFunc(maps.Values(there), func(a, b *corev1.Pod) int {
		if ra, rb := s.Running(a.UID), s.Running(b.UID); ra != rb {
			if ra {
				return -1
			}
			return 1
		}
		return cmp.Compare(at[a.UID], at[b.UID])
	})
	for _, pod := range pods {
		uid := pod.UID
		seen := time.Now().Format(time.RFC3339Nano)
		if old := s.wanted[uid]; old != nil && old.pod == pod {
			continue
		} else if old != nil {
			seen = old.pod.Annotations[kubetypes.ConfigFirstSeenAnnotationKey]
		}
		annotate(pod, kubetypes.FileSource, seen)
		s.known.Lock()
		s.known.static[uid] = pod
		s.known.Unlock()
		s.want(pod)
	}
	if !s.files {
		s.files = true
		s.complete()
	}
	if len(left) > 0 || len(there) > 0 {
		s.mirrorsChanged()
	}
}

var errNoFile = errors.New("source: not a file")

// readFile is the pod of a file, with defaults and what a kubelet adds. An API server would take it.
func (s *Source) readFile(path string) (*corev1.Pod, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errNoFile
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("larger than %d bytes", maxFile)
	}
	json, err := utilyaml.ToJSON(data)
	if err != nil {
		return nil, err
	}
	obj, err := runtime.Decode(legacyscheme.Codecs.UniversalDecoder(), json)
	if err != nil {
		return nil, err
	}
	pod, ok := obj.(*core.Pod)
	if !ok {
		return nil, fmt.Errorf("invalid pod: %#v", obj)
	}
	if pod.Name == "" {
		return nil, errors.New("invalid pod: name is needed for the pod")
	}
	if uid := string(pod.UID); uid != "" && (uid != filepath.Base(uid) || uid == "." || uid == "..") { // directories are named after it
		return nil, fmt.Errorf("invalid pod: metadata.uid: Invalid value: %q: must not be a path", uid)
	}
	s.complement(pod, path)
	opts := podutil.GetValidationOptionsFromPodSpecAndMeta(&pod.Spec, nil, &pod.ObjectMeta, nil)
	if errs := validation.ValidatePodCreate(pod, opts); len(errs) > 0 {
		return nil, fmt.Errorf("invalid pod: %v", errs)
	}
	if _, resource, err := podutil.HasAPIObjectReference(pod); err != nil {
		return nil, err
	} else if resource != "" {
		return nil, fmt.Errorf("static pods may not reference %s", resource)
	}
	out := &corev1.Pod{}
	if err := corev1conversion.Convert_core_Pod_To_v1_Pod(pod, out, nil); err != nil {
		return nil, err
	}
	return out, nil
}

// complement gives the pod a UID that is its contents', a name that no other node's has, and a place on this node.
func (s *Source) complement(pod *core.Pod, path string) {
	if pod.UID == "" {
		sum := fnv.New128a()
		hash.DeepHashObject(sum, pod)
		_, _ = fmt.Fprintf(sum, "host:%sfile:%s", s.Node, path) // a hash takes all
		pod.UID = types.UID(hex.EncodeToString(sum.Sum(nil)))
	}
	pod.Name += "-" + strings.ToLower(s.Node)
	if pod.Namespace == "" {
		pod.Namespace = metav1.NamespaceDefault
	}
	pod.Spec.NodeName = s.Node
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[kubetypes.ConfigHashAnnotationKey] = string(pod.UID)
	helper.AddOrUpdateTolerationInPod(pod, &core.Toleration{Operator: "Exists", Effect: core.TaintEffectNoExecute})
	pod.Status.Phase = core.PodPending
}
