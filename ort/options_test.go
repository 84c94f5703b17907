package ort

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	onnxruntime "github.com/yalue/onnxruntime_go"

	"github.com/sightd/sightd/internal/testenv"
)

func TestThreadsThatWaitSleep(t *testing.T) {
	t.Parallel()
	if err := Open(testenv.ONNXRuntime(t)); err != nil {
		t.Fatal(err)
	}
	s, err := Options{}.session(onnxruntime.GraphOptimizationLevelDisableAll)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Destroy()
	for _, key := range []string{"session.intra_op.allow_spinning", "session.inter_op.allow_spinning"} {
		if value, err := s.GetSessionConfigEntry(key); err != nil || value != "0" {
			t.Errorf("%s is %q, %v; want 0", key, value, err)
		}
	}
}

func TestOptionsRefuseThreads(t *testing.T) {
	t.Parallel()
	for _, n := range []int{-1, 1025} {
		_, err := Options{Threads: n}.session(onnxruntime.GraphOptimizationLevelDisableAll)
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("threads: %d: wanted 1 to 1024, or 0", n)) {
			t.Errorf("%d threads: %v, want an error", n, err)
		}
	}
}

func TestCoresCountHyperThreadsOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for cpu, siblings := range []string{"0,2", "1,3", "0,2", "1,3"} {
		topology := filepath.Join(dir, fmt.Sprintf("cpu%d", cpu), "topology")
		if err := os.MkdirAll(topology, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(topology, "thread_siblings_list"), []byte(siblings+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		allowed []int
		want    int
	}{
		{[]int{0, 1, 2, 3}, 2},
		{[]int{0, 2}, 1},
		{[]int{2, 3}, 2},
	} {
		allowed := func(cpu int) bool { return slices.Contains(c.allowed, cpu) }
		if got := countCores(dir, allowed); got != c.want {
			t.Errorf("processors %v: %d cores, want %d", c.allowed, got, c.want)
		}
	}
	if n := cores(); n < 1 {
		t.Errorf("%d cores here", n)
	}
}
