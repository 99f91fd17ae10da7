package observe

import (
	"context"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// A pod that a list has shown, and that nobody could look at yet, is not one that the runtime does not have: whoever took it for that
// would have it made once more.
func TestReportOfWhatIsListedOnly(t *testing.T) {
	t.Parallel()
	o := New(Config{})
	for range lookers {
		o.slots <- struct{}{} // nobody gets to look
	}
	ctx, cancel := context.WithCancel(t.Context())
	o.compare(ctx, list{at: time.Now(), pods: map[types.UID]*listed{"there": {pod: Pod{UID: "there", Namespace: "default", Name: "web"}}}})
	if r := o.Report("there"); r != nil {
		t.Errorf("of a pod that nobody has looked at: %+v", r)
	}
	if o.Report("elsewhere") == nil {
		t.Error("of a pod that the list did not have: nothing is known")
	}
	cancel()
	o.looking.Wait()
}
