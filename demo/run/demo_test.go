package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sightd/sightd/daemon"
	"github.com/sightd/sightd/internal/testenv"
)

func TestConfigurationIsAccepted(t *testing.T) {
	t.Parallel()
	c, err := daemon.LoadConfig(testenv.Demo("sightd.yaml"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(testenv.Root(), stateDir); c.StateDir != want {
		t.Errorf("state_dir is %s, the demo clears %s", c.StateDir, want)
	}
	if want := strings.TrimSuffix(topics, "/#"); c.MQTT.Prefix+"/"+c.Device != want {
		t.Errorf("topics start with %s/%s, the demo subscribes to %s", c.MQTT.Prefix, c.Device, topics)
	}
}

// Every photograph has its origin and its hash in the table.
func TestPhotographsAreThoseOfTheTable(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile(testenv.Demo("README.md"))
	if err != nil {
		t.Fatal(err)
	}
	photos, err := os.ReadDir(testenv.Demo("photos"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range photos {
		data, err := os.ReadFile(testenv.Demo("photos", p.Name()))
		if err != nil {
			t.Fatal(err)
		}
		row := fmt.Sprintf("| `%s` |", p.Name())
		hash := fmt.Sprintf("| `%x` |", sha256.Sum256(data))
		if !strings.Contains(lineWith(string(readme), row), hash) {
			t.Errorf("demo/README.md has no row %s with %s", row, hash)
		}
	}
}

func lineWith(text, part string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			return line
		}
	}
	return ""
}

func TestDemoFailsWithoutLabelsThatChange(t *testing.T) {
	t.Parallel()
	s := status{Cameras: []cameraStatus{{Name: "cafe"}}}
	see := func(seen *tally, label string) string {
		return seen.take(message{"sightd/demo/cafe/events", fmt.Appendf(nil,
			`{"data":{"camera":"cafe","label":%q,"frame":{"seq":7},"top":[{"label":%[1]q,"score":0.5}],"latency_ms":{"infer":2.5}}}`, label)})
	}
	seen := newTally(time.Now())
	if err := judge(seen, &s); err == nil || !strings.Contains(err.Error(), "no event of camera cafe") {
		t.Errorf("without an event: %v", err)
	}
	if line := see(seen, "espresso"); !strings.Contains(line, "cafe   espresso               ██████████░░░░░░░░░░  50 %    2.5 ms  frame 7") {
		t.Errorf("printed %q", line)
	}
	if err := judge(seen, &s); err == nil || !strings.Contains(err.Error(), "one label in 1 events") {
		t.Errorf("with one label: %v", err)
	}
	see(seen, "palace")
	if err := judge(seen, &s); err != nil {
		t.Error(err)
	}
	var out bytes.Buffer
	summarise(&out, seen, &s)
	if !strings.Contains(out.String(), "2 events: espresso, palace") {
		t.Errorf("summed up as %s", out.String())
	}
}
