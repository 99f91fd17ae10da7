package stats

import (
	"os"
	"path/filepath"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	"k8s.io/kubernetes/pkg/volume/util/fs"
)

// Remeasured is how long what is in a directory is believed to be what was in it: walking it is dear.
const Remeasured = time.Minute

type measured struct {
	fs.UsageInfo
	at time.Time
}

// written is what the runtime says of a filesystem, or a part of one, and what the kernel says of the whole.
func written(from *runtimeapi.FilesystemUsage) *statsapi.FsStats {
	if from == nil {
		return nil
	}
	at := metav1.Unix(0, from.Timestamp)
	s := &statsapi.FsStats{Time: at}
	if whole, err := filesystem(from.GetFsId().GetMountpoint(), at); err == nil {
		s = whole
	}
	s.UsedBytes, s.InodesUsed = value(from.UsedBytes), value(from.InodesUsed)
	return s
}

// files is what the files in a directory take, not those in directories below it.
func (p *Provider) files(dir string) *statsapi.FsStats {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	s, err := filesystem(dir, metav1.NewTime(p.cfg.Now()))
	if err != nil {
		return nil
	}
	var bytes, inodes uint64
	for _, e := range entries {
		if info, err := e.Info(); err == nil && !e.IsDir() {
			inodes++
			if stat, ok := info.Sys().(*syscall.Stat_t); ok {
				bytes += uint64(stat.Blocks) * 512
			}
		}
	}
	s.UsedBytes, s.InodesUsed = &bytes, &inodes
	return s
}

// storage is what the pod takes of the node's own filesystem.
func (p *Provider) storage(pod *statsapi.PodStats, logs string) {
	now := metav1.NewTime(p.cfg.Now())
	total, err := filesystem(p.cfg.Data, now)
	if err != nil {
		return
	}
	total.UsedBytes, total.InodesUsed = nil, nil
	add := func(part *statsapi.FsStats) {
		if part != nil {
			total.UsedBytes, total.InodesUsed = sum(total.UsedBytes, part.UsedBytes), sum(total.InodesUsed, part.InodesUsed)
		}
	}
	for i := range pod.Containers {
		add(pod.Containers[i].Rootfs)
		add(pod.Containers[i].Logs)
	}
	add(p.files(logs))
	if p.cfg.Volumes != nil {
		for _, v := range p.cfg.Volumes(types.UID(pod.PodRef.UID)) {
			s, err := p.volume(v, now)
			if err != nil {
				p.cfg.Log.Debug("A volume was not measured", "volume", v.Name, "pod", pod.PodRef.Namespace+"/"+pod.PodRef.Name, "err", err)
				continue
			}
			if v.Local {
				add(&s.FsStats)
			}
			pod.VolumeStats = append(pod.VolumeStats, *s)
		}
	}
	pod.EphemeralStorage = total
}

func (p *Provider) volume(v Volume, now metav1.Time) (*statsapi.VolumeStats, error) {
	whole, err := filesystem(v.Path, now)
	if err != nil {
		return nil, err
	}
	if !v.Whole {
		used, err := p.used(v.Path)
		if err != nil {
			return nil, err
		}
		whole.UsedBytes, whole.InodesUsed = number(used.Bytes), number(used.Inodes)
		whole.Time = metav1.NewTime(used.at)
	}
	return &statsapi.VolumeStats{FsStats: *whole, Name: v.Name, PVCRef: v.PVC}, nil
}

func (p *Provider) used(dir string) (measured, error) {
	now := p.cfg.Now()
	dir = filepath.Clean(dir)
	if last, ok := p.usage[dir]; ok && now.Sub(last.at) < Remeasured {
		return last, nil
	}
	for other, last := range p.usage { // of volumes that are gone
		if now.Sub(last.at) > forgotten {
			delete(p.usage, other)
		}
	}
	usage, err := fs.DiskUsage(dir)
	if err != nil {
		return measured{}, err
	}
	p.usage[dir] = measured{usage, now}
	return p.usage[dir], nil
}
