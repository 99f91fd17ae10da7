package gc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"syscall"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/kubernetes/pkg/kubelet/events"
)

// ImagePolicy is which images are kept that no container uses.
type ImagePolicy struct {
	// From High percent of the disk on, images are removed until Low percent are used.
	High, Low int
	// MinAge is how long one has been known at least when it is removed for space: it may have been pulled for a container to come.
	MinAge time.Duration
	// MaxAge is how long one is kept that nobody uses; 0: as long as there is space.
	MaxAge time.Duration
}

func (p ImagePolicy) check() error {
	if err := errors.Join(percent("HighThresholdPercent", p.High), percent("LowThresholdPercent", p.Low)); err != nil {
		return err
	}
	if p.Low > p.High {
		return fmt.Errorf("LowThresholdPercent %d can not be higher than HighThresholdPercent %d", p.Low, p.High)
	}
	return nil
}

// imageRecords are what is known of images: no runtime tells when one was pulled or used.
type imageRecords struct {
	mu      sync.Mutex
	of      map[string]*imageRecord // by id
	removed bool                    // some were, of which nobody was told
}

type imageRecord struct {
	id             string
	first, lastUse time.Time
	size           int64
	pinned, used   bool
	handler        string
}

// notice takes over which images there are and which are used, and returns those that may be removed, those first that were not used for
// longest.
func (r *imageRecords) notice(images []*runtimeapi.Image, used func(*runtimeapi.Image) bool, now time.Time) []imageRecord {
	r.mu.Lock()
	defer r.mu.Unlock()
	there := map[string]bool{}
	var removable []imageRecord
	for _, i := range images {
		there[i.Id] = true
		known := r.of[i.Id]
		if known == nil {
			known = &imageRecord{id: i.Id, first: now}
			r.of[i.Id] = known
		}
		known.size, known.pinned, known.used, known.handler = int64(min(i.Size, math.MaxInt64)), i.Pinned, used(i), i.GetSpec().GetRuntimeHandler()
		if known.used {
			known.lastUse = now
		} else if !known.pinned {
			removable = append(removable, *known)
		}
	}
	for id := range r.of {
		if !there[id] {
			delete(r.of, id)
		}
	}
	slices.SortFunc(removable, func(a, b imageRecord) int {
		return cmp.Or(a.lastUse.Compare(b.lastUse), a.first.Compare(b.first), cmp.Compare(a.id, b.id))
	})
	return removable
}

// aged are those that nobody has used for too long. One that was never seen in use is counted from when it was first seen.
func (p ImagePolicy) aged(images []imageRecord, began, now time.Time) (old, rest []imageRecord) {
	if p.MaxAge == 0 || now.Sub(began) <= p.MaxAge { // what was used before this process began is not known
		return nil, images
	}
	for _, i := range images {
		if last := i.lastUse; last.IsZero() && now.Sub(i.first) > p.MaxAge || !last.IsZero() && now.Sub(last) > p.MaxAge {
			old = append(old, i)
		} else {
			rest = append(rest, i)
		}
	}
	return old, rest
}

// excess is how much is to be freed of a disk.
func (p ImagePolicy) excess(capacity, available uint64) (free int64, percent int) {
	available = min(available, capacity)
	percent = 100 - int(available*100/capacity)
	if percent < p.High {
		return 0, percent
	}
	return int64(capacity*uint64(100-p.Low)/100) - int64(available), percent
}

// look lists images and who uses them. Runtimes differ in what they call an image by: any of its names will do.
func (c *Collector) look(ctx context.Context, now time.Time) ([]imageRecord, error) {
	// Images first: one that a container uses which is made meanwhile is listed as used, or not at all.
	images, err := c.Images.ListImages(ctx, nil)
	if err != nil {
		return nil, err
	}
	containers, err := c.Runtime.ListContainers(ctx, nil)
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, one := range containers {
		names[one.ImageId], names[one.ImageRef], names[one.GetImage().GetImage()] = true, true, true
	}
	for _, report := range c.Reports() { // images that are mounted are not in lists
		for _, one := range report.Containers {
			for _, m := range one.Mounts {
				names[m.GetImage().GetImage()] = true
			}
		}
	}
	delete(names, "")
	return c.records.notice(images, func(i *runtimeapi.Image) bool {
		called := func(name string) bool { return names[name] }
		return names[i.Id] || slices.ContainsFunc(i.RepoTags, called) || slices.ContainsFunc(i.RepoDigests, called)
	}, now), nil
}

// CollectImages removes images that are too old, and others when the disk is too full. It is an error, and an event, when there are not
// enough of them.
func (c *Collector) CollectImages(ctx context.Context) error {
	now := time.Now()
	images, err := c.look(ctx, now)
	if err != nil {
		return err
	}
	defer c.tell(ctx, now)
	old, images := c.Image.aged(images, c.began, now)
	var errs []error
	for _, i := range old {
		if err := c.removeImage(ctx, i); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("wanted to free images older than %v, encountered errors in image deletion: %w", c.Image.MaxAge, errors.Join(errs...))
	}
	capacity, available, err := c.imageSpace(ctx)
	if err != nil {
		return err
	}
	if capacity == 0 {
		err := errors.New("invalid capacity 0 on image filesystem")
		c.event(events.InvalidDiskCapacity, err.Error())
		return err
	}
	want, percent := c.Image.excess(capacity, available)
	if want <= 0 {
		return nil
	}
	c.Log.Info("The disk with images was too full", "usedPercent", percent, "bytesToFree", want)
	freed, err := c.free(ctx, images, want, now)
	if err != nil {
		return err
	}
	if freed < want {
		message := fmt.Sprintf("Insufficient free disk space on the node's image filesystem (%d%% of %s used). "+
			"Failed to free sufficient space by deleting unused images (freed %d bytes). "+
			"Investigate disk usage, as it could be used by active images, logs, volumes, or other data.", percent, size(capacity), freed)
		c.event(events.FreeDiskSpaceFailed, message)
		return errors.New(message)
	}
	return nil
}

// RemoveUnusedImages removes all that are not used, for a node whose disk is full.
func (c *Collector) RemoveUnusedImages(ctx context.Context) error {
	now := time.Now()
	images, err := c.look(ctx, now)
	if err != nil {
		return err
	}
	defer c.tell(ctx, now)
	_, err = c.free(ctx, images, math.MaxInt64, now)
	return err
}

// tell tells which images are left, when some were removed.
func (c *Collector) tell(ctx context.Context, listed time.Time) {
	c.records.mu.Lock()
	removed, left := c.records.removed, slices.Sorted(maps.Keys(c.records.of))
	c.records.removed = false
	c.records.mu.Unlock()
	if removed && c.ImagesRemoved != nil {
		c.ImagesRemoved(ctx, left, listed)
	}
}

// free removes images until so much is freed.
func (c *Collector) free(ctx context.Context, images []imageRecord, want int64, now time.Time) (freed int64, err error) {
	var errs []error
	for _, i := range images {
		if now.Sub(i.first) < c.Image.MinAge {
			continue
		}
		if err := c.removeImage(ctx, i); err != nil {
			errs = append(errs, err)
			continue
		}
		if freed += i.size; freed >= want {
			break
		}
	}
	if len(errs) > 0 {
		return freed, fmt.Errorf("wanted to free %d bytes, but freed %d bytes space with errors in image deletion: %w", want, freed, errors.Join(errs...))
	}
	return freed, nil
}

func (c *Collector) removeImage(ctx context.Context, i imageRecord) error {
	if err := c.Images.RemoveImage(ctx, &runtimeapi.ImageSpec{Image: i.id, RuntimeHandler: i.handler}); err != nil {
		return err
	}
	c.Log.Info("Removed an image", "id", i.id, "size", i.size)
	c.records.mu.Lock()
	defer c.records.mu.Unlock()
	delete(c.records.of, i.id)
	c.records.removed = true
	return nil
}

// imageSpace is that of the disk that images are on.
func (c *Collector) imageSpace(ctx context.Context) (capacity, available uint64, err error) {
	info, err := c.Images.ImageFsInfo(ctx)
	if err != nil {
		return 0, 0, err
	}
	if len(info.GetImageFilesystems()) == 0 {
		return 0, 0, errors.New("the container runtime does not tell where images are")
	}
	return c.Usage(info.ImageFilesystems[0].GetFsId().GetMountpoint())
}

// usage is a disk's, as the system says.
func usage(directory string) (capacity, available uint64, err error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(directory, &s); err != nil {
		return 0, 0, fmt.Errorf("space of %s: %w", directory, err)
	}
	return s.Blocks * uint64(s.Frsize), s.Bavail * uint64(s.Frsize), nil
}

// size is for people to read, as upstream writes it.
func size(bytes uint64) string {
	n, units := float64(bytes), []string{"KiB", "MiB", "GiB", "TiB"}
	if n < 1024 {
		return fmt.Sprintf("%d B", bytes)
	}
	for _, unit := range units[:3] {
		if n /= 1024; n < 1024 {
			return fmt.Sprintf("%.1f %s", n, unit)
		}
	}
	return fmt.Sprintf("%.1f %s", n/1024, units[3])
}
