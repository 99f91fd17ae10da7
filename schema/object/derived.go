package object

import "weak"

// derived is a box for what somebody made of one state.
type derived struct {
	item
	value any
}

// Derived returns what derive makes of this state: of it alone, so that one answer serves all who ask. It is kept for as
// long as Config.Hot has room for the number of bytes that derive tells, or not at all when that is 0. A View keeps one such
// value; all callers must mean the same by it and must not change it.
func (v *View) Derived(derive func() (value any, bytes int, err error)) (any, error) {
	v.mu.Lock()
	kept := v.made.Value()
	v.mu.Unlock()
	if kept != nil {
		kept.used.Store(true)
		return kept.value, nil
	}
	// Without the lock: derive reads the View. Two who ask at once may both derive.
	value, size, err := derive()
	if err != nil || size == 0 {
		return value, err
	}
	kept = &derived{value: value}
	kept.bytes = int64(size)
	v.mu.Lock()
	v.made = weak.Make(kept)
	v.mu.Unlock()
	v.keep(&kept.item)
	return value, nil
}

// Metadata returns the place of the value of "metadata" in the stored JSON.
func (v *View) Metadata() (from, to int, err error) {
	data, err := v.Plain()
	if err != nil {
		return 0, 0, err
	}
	if from, _, err = metadata(data); err == nil {
		if to = skipValue(data, from); to < 0 {
			err = errMalformed
		}
	}
	if err != nil {
		return 0, 0, &CorruptError{Key: v.Key(), err: err}
	}
	return from, to, nil
}
