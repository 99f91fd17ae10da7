package custom

import "slices"

// wantRoom tells that a definition's schemas are being made.
func (h *Handler) wantRoom() {
	select {
	case h.room <- struct{}{}:
	default:
	}
}

// makeRoom lets go of the schemas that were not needed for the longest time until the rest fit.
func (h *Handler) makeRoom() {
	all := h.all()
	slices.SortFunc(all, func(a, b *definition) int {
		_, usedA := a.weight()
		_, usedB := b.weight()
		return usedB.Compare(usedA)
	})
	left := max(minRoom, roomEach*len(all))
	for _, d := range all {
		weight, _ := d.weight()
		if left -= weight; left < 0 && weight > 0 {
			d.drop()
		}
	}
}
