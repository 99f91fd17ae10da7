package encryption_test

import (
	"os"
	"testing"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
)

func TestMain(m *testing.M) {
	klog.SetLogger(logr.Discard()) // upstream says there what cannot be decrypted, which is what some tests are about
	os.Exit(m.Run())
}
