package ring

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// The test program is also the writer that tests kill.
func TestMain(m *testing.M) {
	if os.Getenv("RING_TEST_WRITER") != "" {
		writeUntilKilled()
	}
	goleak.VerifyTestMain(m)
}
