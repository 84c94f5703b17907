package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sightd/sightd/mqtt"
)

// tally is what arrived.
type tally struct {
	start   time.Time
	events  int
	states  int
	cameras map[string]*cameraTally
	release string // what was printed last of the model's release
}

type cameraTally struct {
	started bool // it has been online
	events  int
	labels  map[string]int
}

func newTally(start time.Time) *tally {
	return &tally{start: start, cameras: make(map[string]*cameraTally)}
}

// take counts a message and returns the line to print for it, or nothing.
func (t *tally) take(m message) string {
	levels := strings.Split(m.topic, "/")[2:] // behind sightd/demo
	switch {
	case len(levels) == 2 && levels[1] == "events":
		var e mqtt.Event
		if err := json.Unmarshal(m.payload, &e); err != nil {
			return t.line("not an event: %v", err)
		}
		return t.event(&e)
	case len(levels) == 2 && levels[0] == "releases":
		var r mqtt.Release
		if err := json.Unmarshal(m.payload, &r); err != nil {
			return t.line("not a release's state: %v", err)
		}
		return t.releaseState(levels[1], &r)
	case len(levels) == 2 && levels[1] == "status":
		return t.cameraState(levels[0], string(m.payload))
	}
	t.states++
	return ""
}

func (t *tally) camera(name string) *cameraTally {
	c := t.cameras[name]
	if c == nil {
		c = &cameraTally{labels: make(map[string]int)}
		t.cameras[name] = c
	}
	return c
}

// cameraState says nothing of a camera that has yet to start.
func (t *tally) cameraState(name, state string) string {
	c := t.camera(name)
	c.started = c.started || state == mqtt.Online
	if !c.started {
		return ""
	}
	return t.line("camera %s is %s", name, state)
}

func (t *tally) event(e *mqtt.Event) string {
	t.events++
	c := t.camera(e.Data.Camera)
	c.events++
	c.labels[e.Data.Label]++
	score := float32(0)
	for _, l := range e.Data.Top {
		if l.Label == e.Data.Label {
			score = l.Score
		}
	}
	infer := float64(e.Data.Latency.Infer) / float64(time.Millisecond)
	return t.line("%-6s %-22s %s %3.0f %%  %5.1f ms  frame %d", e.Data.Camera, e.Data.Label, bar(score), 100*score, infer, e.Data.Frame.Seq)
}

func (t *tally) releaseState(model string, r *mqtt.Release) string {
	said := fmt.Sprintf("%s release %d is %s", model, r.Release, r.State)
	if r.Phase != "" {
		said += ": " + r.Phase
	}
	if r.Reason != "" {
		said += ": " + r.Reason
	}
	if said == t.release {
		return ""
	}
	t.release = said
	return t.line("%s", said)
}

func (t *tally) line(format string, a ...any) string {
	return fmt.Sprintf("%5.1f s  ", time.Since(t.start).Seconds()) + fmt.Sprintf(format, a...)
}

// bar draws a share from 0 to 1.
func bar(share float32) string {
	const width = 20
	full := min(width, int(share*width+0.5))
	return strings.Repeat("█", full) + strings.Repeat("░", width-full)
}

// summarise prints what the demo showed.
func summarise(w io.Writer, t *tally, s *status) {
	fmt.Fprintf(w, "\n%d events and %d states arrived in %.0f s.\n", t.events, t.states, time.Since(t.start).Seconds())
	for _, c := range s.Cameras {
		fmt.Fprintf(w, "  camera %-6s %4d frames captured, %4d classified", c.Name, c.Captured, c.Classified)
		if seen := t.camera(c.Name); seen.events > 0 {
			fmt.Fprintf(w, ", %3d events: %s", seen.events, strings.Join(slices.Sorted(maps.Keys(seen.labels)), ", "))
		}
		fmt.Fprintln(w)
	}
	for _, m := range s.Models {
		fmt.Fprintf(w, "  model  %-6s %s", m.Name, m.State)
		if m.Engine != nil {
			fmt.Fprintf(w, " in %s on the back end %s, its engine built here in %.1f s; the calibration cache names %.0f %% of what it needs",
				strings.ToUpper(m.Precision), m.Engine.Backend, m.Engine.Build, 100*m.Coverage)
		}
		fmt.Fprintln(w)
	}
}

// judge is an error where the demo didn't show what it is there to show.
func judge(t *tally, s *status) error {
	for _, c := range s.Cameras {
		seen := t.camera(c.Name)
		if seen.events == 0 {
			return fmt.Errorf("no event of camera %s arrived", c.Name)
		}
		if len(seen.labels) < 2 {
			return fmt.Errorf("camera %s: one label in %d events, wanted several", c.Name, seen.events)
		}
	}
	for _, m := range s.Models {
		if m.Precision != "int8" {
			return fmt.Errorf("model %s runs in %q, wanted int8", m.Name, m.Precision)
		}
	}
	return nil
}
