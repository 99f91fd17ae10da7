package cgroup

import (
	"os"
	"path/filepath"
	"testing"
)

// TestCurrent reads what Ensure wrote, in trees of plain files.
func TestCurrent(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		v2                    bool
		files                 map[string]string
		memory, quota, shares int64 // 0: no limit
	}{
		"v1":            {files: map[string]string{"memory.limit_in_bytes": "1048576\n", "cpu.shares": "512\n", "cpu.cfs_quota_us": "50000\n", "cpu.cfs_period_us": "100000\n"}, memory: 1 << 20, quota: 50000, shares: 512},
		"v1, unlimited": {files: map[string]string{"memory.limit_in_bytes": "9223372036854771712\n", "cpu.shares": "2\n", "cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"}, shares: 2},
		"v2":            {v2: true, files: map[string]string{"memory.max": "1048576\n", "cpu.weight": "20\n", "cpu.max": "50000 100000\n"}, memory: 1 << 20, quota: 50000, shares: 500},
		"v2, unlimited": {v2: true, files: map[string]string{"memory.max": "max\n", "cpu.weight": "1\n", "cpu.max": "max 100000\n"}, shares: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mount := t.TempDir()
			m, err := New(Config{Hierarchies: Hierarchies{V2: tt.v2, Mounts: map[string]string{"memory": mount, "cpu": mount}}})
			if err != nil {
				t.Fatal(err)
			}
			p := pod("1", "", "")
			if err := os.MkdirAll(m.Directory(p, "cpu"), 0o755); err != nil {
				t.Fatal(err)
			}
			if _, err := m.Current(p); err == nil {
				t.Error("no error without files")
			}
			for file, text := range tt.files {
				if err := os.WriteFile(filepath.Join(m.Directory(p, "cpu"), file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := m.Current(p)
			if err != nil {
				t.Fatal(err)
			}
			value := func(n *int64) int64 {
				if n == nil {
					return 0
				}
				return *n
			}
			if value(got.Memory) != tt.memory || value(got.CPUQuota) != tt.quota || int64(*got.CPUShares) != tt.shares {
				t.Errorf("memory %d, quota %d, shares %d", value(got.Memory), value(got.CPUQuota), *got.CPUShares)
			}
		})
	}
}
