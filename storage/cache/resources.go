package cache

import (
	"maps"
	"slices"
)

// Resources names the resources that have, or had, objects, in order.
func (c *Cache) Resources() []string {
	w := c.world.Load()
	if w == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(*w.resources.Load()))
}
