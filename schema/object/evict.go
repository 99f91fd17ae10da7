package object

import "strings"

// Evicted lets go of what the View holds of its entry's bytes, which are about to leave memory: selections still have to be
// answered without them. The View itself is worth keeping for labels and fields that somebody has asked for, and for objects
// that somebody holds. ok is false when the View is in use, and keeps what it has.
func (v *View) Evicted() (keep, ok bool) {
	for ; v != nil; v = v.next.Load() {
		if !v.mu.TryLock() {
			return true, false
		}
		if v.written != nil {
			v.mu.Unlock()
			return false, true // nobody but its writer knows it
		}
		v.plain = nil
		if a := v.pairs.Load(); a != nil {
			if !a.own {
				v.pairs.Store(&attrs{labels: a.labels.clone(), fields: a.fields.clone(), hasFields: a.hasFields, own: true})
			}
			keep = true
		}
		if v.obj.Value() != nil || v.made.Value() != nil || v.proto.Value() != nil || v.outer.Value() != nil {
			keep = true
		}
		v.mu.Unlock()
	}
	return keep, true
}

// clone copies the strings into memory of their own, in one piece.
func (p pairs) clone() pairs {
	if len(p) == 0 {
		return p
	}
	var b strings.Builder
	size := 0
	for _, s := range p {
		size += len(s)
	}
	b.Grow(size)
	for _, s := range p {
		b.WriteString(s)
	}
	own, all := make(pairs, len(p)), b.String()
	for i, s := range p {
		own[i], all = all[:len(s)], all[len(s):]
	}
	return own
}
