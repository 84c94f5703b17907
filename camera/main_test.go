package camera

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// The test program is also the workers that misbehave.
func TestMain(m *testing.M) {
	if kind := os.Getenv("CAMERA_TEST_WORKER"); kind != "" {
		misbehave(kind)
	}
	goleak.VerifyTestMain(m)
}
