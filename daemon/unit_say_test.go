package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/mqtt"
	"github.com/sightd/sightd/trt"
)

// keptLog is a log that is read while it is written.
type keptLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *keptLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// lines are those with all parts.
func (l *keptLog) lines(parts ...string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range strings.Split(l.text.String(), "\n") {
		if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) }) {
			found = append(found, line)
		}
	}
	return found
}

// beginLogged is begin with the log kept.
func beginLogged(t *testing.T, c *Config, o Options) (*Daemon, *keptLog) {
	t.Helper()
	log := &keptLog{}
	o.Version, o.Worker, o.Log = "1.2.3", testenv.Worker(t), slog.New(slog.NewTextHandler(log, nil))
	d, err := New(c, o)
	if err != nil {
		t.Fatal(err)
	}
	runs(t, d)
	return d, log
}

func TestWhatIsRetainedOfAReleaseHasTheStatusReason(t *testing.T) {
	t.Parallel()
	c := testConfig(t, bars())
	sub := subscribe(t, "mqtt://"+c.MQTT.Embedded)
	b := &scripted{name: "tensorrt", lanes: 1}
	d, log := beginLogged(t, c, Options{backend: b, spare: &scripted{name: "ort", lanes: 1}, pace: hours})
	eventually(t, "the engine serves", func() bool { s := d.model(); return !s.Interim && s.Frames > 0 })
	b.fail(errScripted)
	eventually(t, "the CPU serves", func() bool { return d.model().Interim })
	s := d.model()
	for _, want := range []string{"10 frames in a row: engine: " + errScripted.Error(), "; the CPU serves; TensorRT's engine is tried again at "} {
		if !strings.Contains(s.Reason, want) {
			t.Errorf("reason %q, want %q", s.Reason, want)
		}
	}
	eventually(t, "subscribers know it too", func() bool {
		var r mqtt.Release
		_ = json.Unmarshal([]byte(sub.last("sightd/box/releases/lite0")), &r)
		return r.State == "serving" && r.Phase == modelFailed && r.Reason == s.Reason
	})
	if warned := log.lines("level=WARN", "TensorRT's engine can't serve, so the CPU does", "next_try="); len(warned) != 1 {
		t.Errorf("warned by %q", warned)
	}
	if wrong := log.lines("release can't be served"); len(wrong) > 0 {
		t.Errorf("though the CPU serves it: %q", wrong)
	}
}

func TestOnlyAReleaseThatNothingServesIsAnError(t *testing.T) {
	t.Parallel()
	for while, level := range map[string]string{"cpu": "WARN", "wait": "ERROR"} {
		t.Run(while, func(t *testing.T) {
			t.Parallel()
			c := testConfig(t, bars())
			c.Models[0].WhileBuilding = while
			b := &scripted{name: "tensorrt", lanes: 1, building: failing(nil, errScripted)}
			d, log := beginLogged(t, c, Options{backend: b, spare: &scripted{name: "ort", lanes: 1}, pace: hours})
			eventually(t, "the build has failed", func() bool { s := d.model(); return s.Build != nil && s.Build.NextTry != nil })
			eventually(t, "it is said", func() bool { return len(log.lines("next_try=")) > 0 })
			if said := log.lines("next_try="); len(said) != 1 || !strings.Contains(said[0], "level="+level) {
				t.Errorf("said by %q, want a line with %s", said, level)
			}
		})
	}
}

func TestTheLogTellsBuildsApartAndNoEstimateThatIsNotKnown(t *testing.T) {
	t.Parallel()
	c := testConfig(t, bars())
	gate := make(chan struct{})
	b := &scripted{name: "tensorrt", lanes: 1, building: gated(gate)}
	_, log := beginLogged(t, c, Options{backend: b, spare: &scripted{name: "ort", lanes: 1}, pace: quick})
	eventually(t, "the build's phase is logged", func() bool { return len(log.lines("msg=building", "phase=optimise")) > 0 })
	for _, backend := range []string{"ort", "tensorrt"} {
		if len(log.lines("msg=building", "backend="+backend)) == 0 {
			t.Errorf("no line says that %s builds", backend)
		}
	}
	if all, known := log.lines("msg=building"), log.lines("msg=building", "backend="); len(all) != len(known) {
		t.Errorf("%d lines, of which %d tell the back end: %q", len(all), len(known), all)
	}
	if said := log.lines("estimate="); len(said) > 0 {
		t.Errorf("nothing was built before: %q", said)
	}
	close(gate)
}

// The configuration or the release has to be mended, or nothing changes.
func TestAPlacementThatCannotBeHadIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	refused := &unfit{errors.New("no core")}
	for while, state := range map[string]string{"cpu": modelServing, "wait": modelFailed} {
		t.Run(while, func(t *testing.T) {
			t.Parallel()
			c := testConfig(t, bars())
			c.Models[0].WhileBuilding = while
			d, log := beginLogged(t, c, Options{
				backend: &scripted{name: "tensorrt", lanes: 1, refuse: refused}, spare: &scripted{name: "ort", lanes: 1}, pace: quick,
			})
			eventually(t, "it is said", func() bool { return strings.HasPrefix(d.model().Reason, "release 1: no core") })
			eventually(t, "the state is "+state, func() bool { return d.model().State == state })
			if s := d.model(); s.Build != nil || s.Interim != (while == "cpu") {
				t.Errorf("%+v", s)
			}
			if n := len(log.lines("msg=preparing")); n != 1 {
				t.Errorf("%d attempts", n)
			}
		})
	}
}

func TestWhoWaitsForTheEndLearnsThatThePlacementCannotBeHad(t *testing.T) {
	t.Parallel()
	c := testConfig(t, CameraConfig{Name: "table", Source: photos()})
	c.Models[0].WhileBuilding = "wait"
	refused := &unfit{errScripted}
	_, done := begin(t, c, Options{backend: &scripted{name: "tensorrt", lanes: 1, refuse: refused}, UntilEnd: true})
	if err := <-done; !errors.Is(err, errScripted) {
		t.Errorf("error %v", err)
	}
}

// DLA without fallback, and a layer that it can't run.
func TestWhatThisMachineCannotDoIsNotBuiltAgain(t *testing.T) {
	t.Parallel()
	s, b := testStore(t), &builder{fail: &trt.Error{Status: trt.Unsupported, Op: "build", Message: "layer norm can't run on DLA"}}
	for range 2 {
		if _, err := s.Open(t.Context(), b, preparedOf("graph"), nil); !final(err) || !strings.Contains(err.Error(), "layer norm") {
			t.Errorf("error %v", err)
		}
	}
	if b.builds != 1 {
		t.Errorf("%d builds", b.builds)
	}
}
