package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/mqtt"
)

// What make fleet-bench does, with twenty devices: every event arrives though a
// server is killed, and the report says so.
func TestASmallFleetLosesNothing(t *testing.T) {
	t.Parallel()
	r, err := measure(t.Context(), config{
		devices: 20, rate: 5, phase: 3 * time.Second, patience: 3 * time.Minute, durability: mqtt.Always,
		server: testenv.NATSServer(t), configs: filepath.Join(testenv.Root(), "docs", "fleet"), dir: t.TempDir(),
	})
	if r == nil {
		t.Fatal(err)
	}
	var out strings.Builder
	r.print(&out)
	t.Log(out.String())
	if err != nil {
		t.Error(err)
	}
	if r.published == 0 || r.arrived != r.published || len(r.back) == 0 {
		t.Errorf("%d published, %d arrived, %d devices moved: want all, and some", r.published, r.arrived, len(r.back))
	}
}
