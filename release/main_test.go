package release

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if disk := os.Getenv(installOn); disk != "" {
		os.Exit(installOnDisk(disk))
	}
	goleak.VerifyTestMain(m)
}
