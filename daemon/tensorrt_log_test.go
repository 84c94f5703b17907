package daemon

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/sightd/sightd/trt"
)

func TestWhatTensorRTLogsAtEachFrameIsSaidOnceAndCounted(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	var l tensorRTLog
	for range 1000 {
		l.take(log, trt.LogError, "enqueueV3: no kernel")
		l.take(log, trt.Warning, "deprecated")
		l.take(log, trt.Note, "so many bytes")
	}
	if n := strings.Count(out.String(), "\n"); n != 1 || !strings.Contains(out.String(), "no kernel") || l.failures() != 1000 {
		t.Errorf("%d lines, %d errors counted: %s", n, l.failures(), &out)
	}
	for i := range 1000 {
		l.take(log, trt.LogError, fmt.Sprintf("address %d", i))
	}
	if n := strings.Count(out.String(), "\n"); n != maxTensorRTLines+1 || !strings.Contains(out.String(), "only counted") || l.failures() != 2000 {
		t.Errorf("%d lines, %d errors counted", n, l.failures())
	}
}
