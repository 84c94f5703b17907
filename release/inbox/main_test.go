package inbox

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(fullDisk); dir != "" {
		os.Exit(receiveOnFullDisk())
	}
	if dir := os.Getenv(oldKernel); dir != "" {
		os.Exit(receiveWithoutOpenat2(dir))
	}
	if dir := os.Getenv(runInbox); dir != "" {
		os.Exit(runUntilKilled(dir))
	}
	goleak.VerifyTestMain(m)
}
