package upstream

import (
	"testing"
)

func TestGroupsHaveStorages(t *testing.T) {
	t.Parallel()
	groups, err := Groups()
	if err != nil {
		t.Fatal(err)
	}
	if len(groups) != 21 {
		t.Errorf("%d groups, kube-apiserver serves 21", len(groups))
	}
	for _, g := range groups {
		for version, resources := range g.VersionedResourcesStorageMap {
			if len(resources) == 0 {
				t.Errorf("%s/%s has no resources", g.PrioritizedVersions[0].Group, version)
			}
		}
	}
}
