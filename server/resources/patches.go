package resources

import (
	"sync/atomic"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
)

// maxCopiedBytes bounds what the copy operations of one JSON patch may add up to. Each may double the object, so that
// without a bound a patch of some hundred bytes fills the memory of the machine.
const maxCopiedBytes = 3 << 20

// boundPatches tells the patch library the bound. The library has one for the whole process.
func boundPatches() {
	if atomic.LoadInt64(&jsonpatch.AccumulatedCopySizeLimit) != maxCopiedBytes {
		atomic.StoreInt64(&jsonpatch.AccumulatedCopySizeLimit, maxCopiedBytes)
	}
}
