package daemon

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sightd/sightd/internal/testenv"
)

// Commands that can't be obeyed are said to be so before one comes.
func TestCommandsWithoutAClockAreWarnedOf(t *testing.T) {
	t.Parallel()
	c := testConfig(t, bars())
	c.MQTT.Commands = []string{"snapshot"}
	var set atomic.Bool
	clock := func() error {
		if set.Load() {
			return nil
		}
		return errors.New("no time server")
	}
	var log testenv.Buffer
	d, err := New(c, Options{backend: &scripted{name: "ort", lanes: 1}, clock: clock, Worker: testenv.Worker(t), Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	const want = "mqtt.commands: none is obeyed until the clock is set: no time server"
	if !strings.Contains(log.String(), want) {
		t.Errorf("the log:\n%s", log.String())
	}
	if s := d.Status(); !slices.Contains(s.MQTT.Warnings, want) {
		t.Errorf("the status warns of %q", s.MQTT.Warnings)
	}
	set.Store(true)
	if s := d.Status(); len(s.MQTT.Warnings) > 0 {
		t.Errorf("with a clock that is set, the status warns of %q", s.MQTT.Warnings)
	}
}
