package stats

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// Left is what is left of the node's memory, disk and processes; pods: and what its pods use.
func (p *Provider) Left(ctx context.Context, pods bool) (*statsapi.Summary, error) {
	if pods {
		return p.Summary(ctx)
	}
	node, err := p.node(false)
	if err != nil {
		return nil, fmt.Errorf("failed to get root cgroup stats: %w", err)
	}
	if err := p.left(ctx, node, metav1.NewTime(p.cfg.Now())); err != nil {
		return nil, err
	}
	return &statsapi.Summary{Node: *node}, nil
}

// left fills in what is left of the disk and of processes.
func (p *Provider) left(ctx context.Context, node *statsapi.NodeStats, now metav1.Time) (err error) {
	if node.Fs, err = filesystem(p.cfg.Data, now); err != nil {
		return fmt.Errorf("failed to get rootFs stats: %w", err)
	}
	node.Rlimit = rlimit(p.cfg.Proc, now)
	if images, containers, err := p.ImageFS(ctx); err == nil {
		node.Runtime = &statsapi.RuntimeStats{ImageFs: images, ContainerFs: containers}
	} else if ctx.Err() == nil {
		p.cfg.Log.Warn("The filesystem of images was not measured", "err", err)
	}
	return nil
}

// Apart tells whether images, or what containers write, are on another filesystem than the node's, and whether images are not where
// containers write.
func (p *Provider) Apart(ctx context.Context) (images, split bool, err error) {
	resp, err := p.cfg.Images.ImageFsInfo(ctx)
	if err != nil {
		return false, false, err
	}
	if len(resp.GetImageFilesystems()) == 0 {
		return false, false, errors.New("imageFs information is unavailable")
	}
	of := resp.GetImageFilesystems()[0]
	places := []string{p.cfg.Data, of.GetFsId().GetMountpoint(), of.GetFsId().GetMountpoint()}
	if others := resp.GetContainerFilesystems(); len(others) > 0 {
		places[2] = others[0].GetFsId().GetMountpoint()
	}
	var devices [3]uint64
	for i, path := range places {
		var s unix.Stat_t
		if err := unix.Stat(path, &s); err != nil {
			return false, false, fmt.Errorf("stat %s: %w", path, err)
		}
		devices[i] = s.Dev
	}
	split = devices[1] != devices[2]
	return devices[1] != devices[0] || split, split, nil
}
