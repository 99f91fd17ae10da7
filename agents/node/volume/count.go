package volume

import (
	"time"

	volumeutil "k8s.io/kubernetes/pkg/volume/util"
)

// Count is how many volumes pods want, and how many are ready, by the names of their kinds.
func (m *Manager) Count() (wanted, ready map[string]int) {
	wanted, ready = map[string]int{}, map[string]int{}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.have {
		if s.pod == nil {
			continue // it is being taken away
		}
		mounts, devices, _ := volumeutil.GetPodVolumeNames(s.pod, false)
		for i := range s.pod.Spec.Volumes {
			v := &s.pod.Spec.Volumes[i]
			plugin, err := m.plugin(v)
			if err != nil || !mounts.Has(v.Name) && !devices.Has(v.Name) {
				continue
			}
			wanted[plugin.Name()]++
			if _, done := s.done[v.Name]; done {
				ready[plugin.Name()]++
			}
		}
	}
	return wanted, ready
}

// tell tells what was done to a volume.
func (m *Manager) tell(operation string, plugin Plugin, began time.Time, err error) {
	if m.config.Done != nil {
		m.config.Done(operation, plugin.Name(), time.Since(began), err)
	}
}
