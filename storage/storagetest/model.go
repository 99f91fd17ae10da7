package storagetest

import "testing"

func testModel(t *testing.T, b Backend) {}
