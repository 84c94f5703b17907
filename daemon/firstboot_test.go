package daemon

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/mqtt"
)

// quick is a pace that nobody has to wait for.
var quick = pace{tick: 5 * time.Millisecond, log: time.Second, wait: time.Millisecond, most: 4 * time.Millisecond}

// gated is a building that waits until it is let go on, and tells its phase
// meanwhile.
func gated(gate <-chan struct{}) func(context.Context, int, func(BuildProgress)) error {
	return func(ctx context.Context, _ int, progress func(BuildProgress)) error {
		progress(BuildProgress{Phase: "optimise", Step: 3, Steps: 12})
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func bars() CameraConfig { return CameraConfig{Name: "bars", Source: "test:bars?each=true"} }

// status of the one model.
func (d *Daemon) model() ModelStatus { return d.Status().Models[0] }

// readyz is what /readyz answers.
func readyz(t *testing.T, c *Config) (int, string) {
	t.Helper()
	res, err := http.Get("http://" + c.HTTP.Listen + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode, get(t, "http://"+c.HTTP.Listen+"/readyz")
}

func TestTheCPUServesWhileTheEngineIsBuilt(t *testing.T) {
	t.Parallel()
	c := testConfig(t, bars())
	everyFrame(c)
	sub := subscribe(t, "mqtt://"+c.MQTT.Embedded)
	gate := make(chan struct{})
	b := &scripted{name: "tensorrt", lanes: 2, building: gated(gate), report: &BuildReport{
		Layers: map[string]int{"int8": 50, "fp16": 2}, Unscaled: []string{"a", "b"},
	}}
	d, _ := begin(t, c, Options{backend: b, pace: quick})
	release := func() (r mqtt.Release) {
		_ = json.Unmarshal([]byte(sub.last("sightd/box/releases/lite0")), &r)
		return r
	}
	eventually(t, "the CPU serves beside the build", func() bool {
		s := d.model()
		return s.Interim && s.Frames > 5 && s.Build != nil && s.Build.Phase == "optimise"
	})
	s := d.model()
	if s.State != modelServing || s.Engine.Backend != "ort" || s.Engine.Device != "cpu" || s.Reason != "the CPU serves while TensorRT's engine is built" {
		t.Errorf("%+v with the engine %+v", s, s.Engine)
	}
	if code, body := readyz(t, c); code != http.StatusOK {
		t.Errorf("not ready though the CPU serves: %s", body)
	}
	eventually(t, "subscribers hear of the build", func() bool {
		r := release()
		return r.State == "serving" && r.Phase == "building: optimise" && r.Progress != nil && *r.Progress == .25 && r.Reason == s.Reason
	})
	if line := statusLine(d.Status()); !strings.HasPrefix(line, "building lite0: ") || !strings.Contains(line, "(optimise); 1 of 1 models serve") {
		t.Errorf("status line %q", line)
	}
	close(gate)
	eventually(t, "the built engine serves", func() bool { return !d.model().Interim })
	after := d.model()
	if e := after.Engine; e.Backend != "tensorrt" || e.Lanes != 2 || e.Layers["int8"] != 50 || e.Unscaled != 2 || after.Reason != "" || after.Build != nil {
		t.Errorf("%+v with the engine %+v", after, e)
	}
	eventually(t, "frames go on", func() bool { return d.model().Frames > after.Frames+5 })
	eventually(t, "subscribers hear that it serves", func() bool { r := release(); return r.State == "serving" && r.Phase == "" && r.Reason == "" })
	eventually(t, "their events came", func() bool {
		return slices.ContainsFunc(events(t, sub, "bars"), func(e mqtt.Event) bool { return e.Data.Model.Engine == after.Engine.ID })
	})
	var engines []string
	for _, e := range inOrder(t, sub, "bars") {
		engines = append(engines, e.Data.Model.Engine)
	}
	if engines = slices.Compact(engines); !slices.Equal(engines, []string{s.Engine.ID, after.Engine.ID}) {
		t.Errorf("events of engines %q, want the CPU's %s and then %s", engines, s.Engine.ID, after.Engine.ID)
	}
}

func TestNothingServesWhileTheEngineIsAwaited(t *testing.T) {
	t.Parallel()
	c := testConfig(t, bars())
	everyFrame(c)
	c.Models[0].WhileBuilding = "wait"
	sub := subscribe(t, "mqtt://"+c.MQTT.Embedded)
	gate := make(chan struct{})
	d, _ := begin(t, c, Options{backend: &scripted{name: "tensorrt", lanes: 1, building: gated(gate)}, pace: quick})
	eventually(t, "it builds", func() bool {
		s := d.model()
		return s.State == modelBuilding && s.Build != nil && s.Build.Phase == "optimise"
	})
	code, body := readyz(t, c)
	if code != http.StatusServiceUnavailable || !strings.HasPrefix(body, "model lite0: building, ") || !strings.Contains(body, "(optimise)") {
		t.Errorf("readyz: %d %s", code, body)
	}
	metrics := get(t, "http://"+c.HTTP.Listen+"/metrics")
	for _, want := range []string{`sightd_engine_build_elapsed_seconds{model="lite0"}`, `sightd_model_interim{model="lite0"} 0`, `sightd_engine_damaged_total{model="lite0"} 0`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %q", want)
		}
	}
	eventually(t, "subscribers hear of the build", func() bool {
		return strings.Contains(sub.last("sightd/box/releases/lite0"), `"state":"staged"`) &&
			strings.Contains(sub.last("sightd/box/releases/lite0"), `"phase":"building: optimise"`)
	})
	close(gate)
	eventually(t, "events come", func() bool { return len(events(t, sub, "bars")) > 5 })
	inOrder(t, sub, "bars") // a source whose every frame counts has waited
	if metrics := get(t, "http://"+c.HTTP.Listen+"/metrics"); !strings.Contains(metrics, `sightd_engine_builds_total{model="lite0",outcome="ok"} 1`) {
		t.Error("the build isn't counted")
	}
}

func TestAStoredEngineNeedsNoInterim(t *testing.T) {
	t.Parallel()
	c := testConfig(t, CameraConfig{Name: "table", Source: photos()})
	b := &scripted{name: "tensorrt", lanes: 1}
	spare := &scripted{name: "ort", lanes: 1}
	c.Models[0].WhileBuilding = "wait"
	for _, builds := range []int{1, 1} {
		d, done := begin(t, c, Options{backend: b, spare: spare, pace: quick, UntilEnd: true})
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if n, _, open := b.counted(); n != builds || open != 0 || d.model().Frames != 5 {
			t.Errorf("%d builds, %d engines open, %d frames; want %d, 0, 5", n, open, d.model().Frames, builds)
		}
		c.Models[0].WhileBuilding = "cpu"
	}
	if _, loads, _ := spare.counted(); loads != 0 {
		t.Error("the CPU's engine was opened for nothing")
	}
}

func TestWhereTheCPUCannotServeTheEngineIsAwaited(t *testing.T) {
	t.Parallel()
	c := testConfig(t, bars())
	everyFrame(c)
	sub := subscribe(t, "mqtt://"+c.MQTT.Embedded)
	gate := make(chan struct{})
	d, _ := begin(t, c, Options{
		backend: &scripted{name: "tensorrt", lanes: 1, building: gated(gate)},
		spare:   &scripted{name: "ort", lanes: 1, refuse: errScripted}, pace: quick,
	})
	eventually(t, "it is said", func() bool {
		s := d.model()
		return s.State == modelBuilding && strings.Contains(s.Reason, "the CPU can't serve while TensorRT's engine is built: "+errScripted.Error())
	})
	close(gate)
	eventually(t, "events come", func() bool { return len(events(t, sub, "bars")) > 5 })
	inOrder(t, sub, "bars")
	if s := d.model(); s.Reason != "" {
		t.Errorf("%q is said still", s.Reason)
	}
}

func TestTheCPUClassifiesAllOfASourceThatEndsBefore(t *testing.T) {
	t.Parallel()
	c := testConfig(t, CameraConfig{Name: "table", Source: photos()})
	b := &scripted{name: "tensorrt", lanes: 1, building: gated(nil)}
	spare := &scripted{name: "ort", lanes: 1}
	d, done := begin(t, c, Options{backend: b, spare: spare, pace: quick, UntilEnd: true})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if s := d.model(); s.Frames != 5 || s.Builds[buildCancelled] > 1 || s.Builds[buildFailed] != 0 {
		t.Errorf("%d frames, builds %v; want 5 and none that failed", s.Frames, s.Builds)
	}
	if _, _, open := spare.counted(); open != 0 {
		t.Errorf("%d engines left open", open)
	}
}

func TestAStopCancelsTheBuild(t *testing.T) {
	t.Parallel()
	for _, while := range []string{"cpu", "wait"} {
		t.Run(while, func(t *testing.T) {
			t.Parallel()
			c := testConfig(t, bars())
			c.Models[0].WhileBuilding = while
			b := &scripted{name: "tensorrt", lanes: 1, building: gated(nil)}
			spare := &scripted{name: "ort", lanes: 1}
			d, err := New(c, Options{backend: b, spare: spare, pace: quick, Worker: testenv.Worker(t), Log: testLog(t)})
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- d.Run(ctx) }()
			eventually(t, "it builds", func() bool { s := d.model(); return s.Build != nil && s.Build.Phase == "optimise" })
			stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
			if s := d.model(); s.Builds[buildCancelled] != 1 || s.Builds[buildFailed] != 0 {
				t.Errorf("builds %v, want one that is cancelled", s.Builds)
			}
			if left, _ := filepath.Glob(filepath.Join(c.StateDir, "engines", buildPrefix+"*")); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
			if notes, _ := filepath.Glob(filepath.Join(c.StateDir, "engines", "*"+failedSuffix)); len(notes) > 0 {
				t.Errorf("a stop is noted as a failure: %q", notes)
			}
			if _, _, open := spare.counted(); open != 0 {
				t.Errorf("%d engines left open", open)
			}
		})
	}
}

func TestADamagedEngineIsCounted(t *testing.T) {
	t.Parallel()
	c := testConfig(t, CameraConfig{Name: "table", Source: photos()})
	c.Models[0].WhileBuilding = "wait"
	b := &scripted{name: "tensorrt", lanes: 1}
	for _, damaged := range []uint64{0, 1} {
		d, done := begin(t, c, Options{backend: b, pace: quick, UntilEnd: true})
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if s := d.model(); s.Damaged != damaged || s.Frames != 5 {
			t.Errorf("%d damaged, %d frames; want %d, 5", s.Damaged, s.Frames, damaged)
		}
		engines, _ := filepath.Glob(filepath.Join(c.StateDir, "engines", "*.engine"))
		if len(engines) != 1 {
			t.Fatalf("engines %q", engines)
		}
		if err := os.WriteFile(engines[0], []byte("something else"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestHowLongABuildTakesIsSaidShortly(t *testing.T) {
	t.Parallel()
	for want, b := range map[string]BuildStatus{
		"1m10s of about 3m (optimise)": {Elapsed: 70.2, Estimate: 180, Phase: "optimise"},
		"5s (parse)":                   {Elapsed: 5.4, Phase: "parse"},
		"0s":                           {Estimate: .3}, // "of about 0s" tells nothing
		"1h1m":                         {Elapsed: 3660},
	} {
		if got := b.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for _, test := range []struct {
		b    BuildStatus
		want float64
	}{
		{BuildStatus{Elapsed: 30, Estimate: 120, Step: 3, Steps: 4}, .25},
		{BuildStatus{Elapsed: 500, Estimate: 120}, .99}, // longer than the last one
		{BuildStatus{Step: 3, Steps: 4}, .75},
		{BuildStatus{Elapsed: 30}, -1},
	} {
		if v := test.b.Share(); v == nil && test.want >= 0 || v != nil && *v != test.want {
			t.Errorf("share of %+v: %v, want %v", test.b, v, test.want)
		}
	}
}

func TestWaitsDoubleUpToSixHours(t *testing.T) {
	t.Parallel()
	for failures, want := range map[int]time.Duration{1: time.Minute, 2: 2 * time.Minute, 5: 16 * time.Minute, 10: 6 * time.Hour, 1 << 40: 6 * time.Hour} {
		if got := usualPace.after(failures); got != want {
			t.Errorf("after %d failures %v, want %v", failures, got, want)
		}
	}
}
