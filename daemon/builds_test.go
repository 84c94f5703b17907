package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/mqtt"
	"github.com/sightd/sightd/release"
	"github.com/sightd/sightd/trt"
)

// failing is a building that fails with these, and then waits for the gate.
func failing(gate <-chan struct{}, failures ...error) func(context.Context, int, func(BuildProgress)) error {
	then := gated(gate)
	return func(ctx context.Context, n int, progress func(BuildProgress)) error {
		if n <= len(failures) {
			return failures[n-1]
		}
		return then(ctx, n, progress)
	}
}

func TestABuildThatFailsIsTriedAgainWhileTheCPUServes(t *testing.T) {
	t.Parallel()
	c := testConfig(t, bars())
	everyFrame(c)
	sub := subscribe(t, "mqtt://"+c.MQTT.Embedded)
	gate := make(chan struct{})
	crash := &trt.Error{Status: trt.Crashed, Op: "build", Message: "the builder ended by signal 9"}
	b := &scripted{name: "tensorrt", lanes: 2, building: failing(gate, errScripted, crash)}
	spare := &scripted{name: "ort", lanes: 1}
	d, _ := begin(t, c, Options{backend: b, spare: spare, pace: quick})
	eventually(t, "the third build is under way", func() bool {
		s := d.model()
		return s.Build != nil && s.Build.Phase == "optimise" && s.Frames > 5
	})
	s := d.model()
	if !s.Interim || s.Build.Attempts != 2 || s.Builds[buildFailed] != 1 || s.Builds[buildCrashed] != 1 {
		t.Errorf("%+v, building %+v; want the CPU after two attempts, one of which crashed", s, s.Build)
	}
	if want := "release 1: build engine: " + crash.Error() + "; the CPU serves while TensorRT's engine is built"; s.Reason != want {
		t.Errorf("reason %q, want %q", s.Reason, want)
	}
	close(gate)
	eventually(t, "it serves", func() bool { return !d.model().Interim })
	if s := d.model(); s.Reason != "" || s.Build != nil || s.Builds[buildOK] != 2 {
		t.Errorf("%+v, want nothing to be said and two builds that went well", s)
	}
	n := len(events(t, sub, "bars"))
	eventually(t, "events go on", func() bool { return len(events(t, sub, "bars")) > n+5 })
	inOrder(t, sub, "bars")
	if _, _, open := spare.counted(); open != 0 {
		t.Error("the CPU's engine is still open")
	}
}

// At the usual pace: a state that another follows at once isn't sent to all.
func TestSubscribersLearnThatABuildFailed(t *testing.T) {
	t.Parallel()
	c := testConfig(t, bars())
	sub := subscribe(t, "mqtt://"+c.MQTT.Embedded)
	b := &scripted{name: "tensorrt", lanes: 2, building: failing(nil, errScripted)}
	begin(t, c, Options{backend: b, spare: &scripted{name: "ort", lanes: 1}})
	eventually(t, "the failure is said while the CPU serves", func() bool {
		return slices.ContainsFunc(sub.on("sightd/box/releases/lite0"), func(s string) bool {
			return strings.Contains(s, `"state":"serving"`) && strings.Contains(s, `"phase":"failed"`) && strings.Contains(s, errScripted.Error())
		})
	})
}

func TestAFailedBuildIsRememberedAcrossStarts(t *testing.T) {
	t.Parallel()
	c := testConfig(t, CameraConfig{Name: "bars", Source: "test:bars"})
	c.Models[0].WhileBuilding = "wait"
	b := &scripted{name: "tensorrt", lanes: 1, building: failing(nil, errScripted)}
	for range 2 {
		d, err := New(c, Options{backend: b, Worker: testenv.Worker(t), Log: testLog(t)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- d.Run(ctx) }()
		eventually(t, "it waits for the next try", func() bool { s := d.model(); return s.Build != nil && s.Build.NextTry != nil })
		s := d.model()
		wait := time.Until(*s.Build.NextTry)
		if s.State != modelFailed || s.Build.Attempts != 1 || wait < 0 || wait > time.Minute || !strings.Contains(s.Reason, errScripted.Error()) {
			t.Errorf("%+v, to be tried in %v: %+v", s, wait, s.Build)
		}
		if why := d.notReady(); len(why) != 1 || !strings.HasPrefix(why[0], "model lite0: failed: release 1: ") {
			t.Errorf("not ready because %q", why)
		}
		select {
		case err := <-done:
			t.Fatalf("the daemon ended: %v", err)
		default:
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n, _, _ := b.counted(); n != 1 {
		t.Errorf("%d builds, want one", n)
	}
}

func TestWhoWaitsForTheEndLearnsThatTheBuildFailed(t *testing.T) {
	t.Parallel()
	c := testConfig(t, CameraConfig{Name: "table", Source: photos()})
	c.Models[0].WhileBuilding = "wait"
	b := &scripted{name: "tensorrt", lanes: 1, building: failing(nil, errScripted)}
	_, done := begin(t, c, Options{backend: b, UntilEnd: true})
	if err := <-done; !errors.Is(err, errScripted) {
		t.Errorf("error %v, want the build's", err)
	}
}

func TestAReleaseThatCannotBeBuiltIsRejected(t *testing.T) {
	t.Parallel()
	c := testConfig(t, bars())
	installWhileStopped(t, c, packed(t, 2))
	c.Models[0].WhileBuilding = "wait"
	b := &scripted{name: "tensorrt", lanes: 1, building: func(_ context.Context, n int, _ func(BuildProgress)) error {
		if n == 2 { // the factory release's was first
			return &release.Rejection{Code: release.BadModel, Err: errScripted}
		}
		return nil
	}}
	d, _ := begin(t, c, Options{backend: b, pace: quick})
	eventually(t, "the factory release serves", func() bool { s := d.model(); return s.State == modelServing && s.Factory && s.Frames > 0 })
	eventually(t, "release 2 is said not to serve, and isn't tried again", func() bool {
		s := d.model()
		return strings.HasPrefix(s.Reason, "release 2: build engine: ") && s.Build == nil
	})
	// What is said was on disk before.
	all, err := d.store.List("lite0")
	if err != nil || len(all) != 1 || all[0].State != release.Rejected || all[0].Code != release.BadModel {
		t.Errorf("%+v, %v; want it rejected", all, err)
	}
}

// stoppable runs a daemon until stop.
func stoppable(t *testing.T, d *Daemon) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// refusing is a building of a model that TensorRT doesn't take, from one build to
// another.
func refusing(first, last int) func(context.Context, int, func(BuildProgress)) error {
	return func(_ context.Context, n int, _ func(BuildProgress)) error {
		if n >= first && n <= last {
			return &trt.Error{Status: trt.BadModel, Op: "build", Message: "no importer registered for this operator"}
		}
		return nil
	}
}

func TestAModelThatTensorRTRefusesIsTriedAgainAfterItsUpgrade(t *testing.T) {
	t.Parallel()
	c := testConfig(t, bars())
	installWhileStopped(t, c, packed(t, 2))
	c.Models[0].WhileBuilding = "wait"
	b := &scripted{name: "tensorrt", lanes: 1, building: refusing(2, 2)}
	until := func(what string, ok func(*Daemon, ModelStatus) bool) {
		d, err := New(c, Options{backend: b, Worker: testenv.Worker(t), Log: testLog(t)})
		if err != nil {
			t.Fatal(err)
		}
		stop := stoppable(t, d)
		eventually(t, what, func() bool { s := d.model(); return s.State == modelServing && s.Frames > 0 && ok(d, s) })
		stop()
	}
	for start := range 2 {
		until("the factory release serves", func(d *Daemon, s ModelStatus) bool {
			if !s.Factory || s.Reason == "" || s.Build != nil {
				return false
			}
			if !strings.HasPrefix(s.Reason, "release 2: ") || !strings.Contains(s.Reason, "no importer") || s.Build != nil || s.Builds[buildFailed] != uint64(1-start) {
				t.Errorf("start %d: %+v, want the reason, no further try, and one failure in all", start, s)
			}
			status, err := d.Releases()
			if err != nil {
				t.Fatal(err)
			}
			if e := status.Models[0].Releases[1]; e.State == release.Rejected {
				t.Errorf("start %d: %+v, though the file may be a good one", start, e)
			}
			return true
		})
	}
	if n, _, _ := b.counted(); n != 2 {
		t.Errorf("%d builds, want those of both releases once", n)
	}
	b.identity = "a newer one"
	until("release 2 serves", func(_ *Daemon, s ModelStatus) bool { return s.Release == 2 && !s.Factory && s.Reason == "" })
}

func TestTheCPUServesAModelThatTensorRTRefuses(t *testing.T) {
	t.Parallel()
	c := testConfig(t, bars())
	b := &scripted{name: "tensorrt", lanes: 1, building: refusing(1, 100)}
	d, _ := begin(t, c, Options{backend: b, spare: &scripted{name: "ort", lanes: 1}, pace: quick})
	eventually(t, "it is said", func() bool {
		return strings.HasSuffix(d.model().Reason, "the CPU serves, as TensorRT has no engine for it")
	})
	n := d.model().Frames
	eventually(t, "the CPU goes on", func() bool { return d.model().Frames > n+10 })
	s := d.model()
	if n, _, _ := b.counted(); n != 1 || !s.Interim || s.Build != nil || s.Builds[buildFailed] != 1 {
		t.Errorf("%d builds, %+v", n, s)
	}
}

func TestADaemonWithoutAModelThatTensorRTTakesWaitsForOne(t *testing.T) {
	t.Parallel()
	c := testConfig(t, bars())
	c.Releases.RequireSignature = false
	c.Models[0].WhileBuilding = "wait"
	d, _ := begin(t, c, Options{backend: &scripted{name: "tensorrt", lanes: 1, building: refusing(1, 1)}, pace: quick})
	eventually(t, "the build has failed", func() bool { return d.model().State == modelFailed })
	if why := d.notReady(); len(why) != 1 || !strings.Contains(why[0], "no importer") {
		t.Errorf("not ready because %q", why)
	}
	control, err := DialControl(c.ControlSocket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := control.Install(t.Context(), bytes.NewReader(packed(t, 2)), false); err != nil {
		t.Fatal(err)
	}
	eventually(t, "release 2 serves", func() bool { s := d.model(); return s.Release == 2 && s.Frames > 0 })
}

func TestTheNewestReleaseIsBuiltFirst(t *testing.T) {
	t.Parallel()
	c := testConfig(t, bars())
	everyFrame(c)
	c.Releases.RequireSignature = false
	sub := subscribe(t, "mqtt://"+c.MQTT.Embedded)
	var cancelled []int
	b := &scripted{name: "tensorrt", lanes: 2}
	b.building = func(ctx context.Context, n int, progress func(BuildProgress)) error {
		progress(BuildProgress{Phase: "optimise"})
		if n < 3 { // those of releases 1 and 2
			<-ctx.Done()
			cancelled = append(cancelled, n)
			return ctx.Err()
		}
		return nil
	}
	d, _ := begin(t, c, Options{backend: b, spare: &scripted{name: "ort", lanes: 1}, pace: quick})
	control, err := DialControl(c.ControlSocket)
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n < 3; n++ {
		eventually(t, fmt.Sprintf("release %d is built", n), func() bool {
			s := d.model()
			return s.Build != nil && s.Build.Release == n && s.Build.Phase == "optimise"
		})
		if _, err := control.Install(t.Context(), bytes.NewReader(packed(t, n+1)), false); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "release 3 serves", func() bool { s := d.model(); return s.Release == 3 && !s.Interim && s.State == modelServing })
	s := d.model()
	eventually(t, "frames go on", func() bool { return d.model().Frames > s.Frames+5 })
	if s.Builds[buildCancelled] != 2 || s.Builds[buildFailed] != 0 || !slices.Equal(cancelled, []int{1, 2}) {
		t.Errorf("builds %v, cancelled %v; want the first two", s.Builds, cancelled)
	}
	if n, _, open := b.counted(); n != 3 || open != 1 {
		t.Errorf("%d builds and %d engines open, want 3 and 1", n, open)
	}
	for _, e := range inOrder(t, sub, "bars") {
		if e.Data.Model.Release == 2 {
			t.Fatal("release 2 spoke")
		}
	}
}

func TestTheServingEngineGoesOnWhereANewOneCannotBeBuilt(t *testing.T) {
	t.Parallel()
	c := testConfig(t, bars())
	c.Releases.RequireSignature = false
	c.Models[0].WhileBuilding = "wait"
	b := &scripted{name: "tensorrt", lanes: 1, building: func(_ context.Context, n int, _ func(BuildProgress)) error {
		if n > 1 && n < 5 {
			return errScripted
		}
		return nil
	}}
	d, _ := begin(t, c, Options{backend: b, pace: quick})
	eventually(t, "release 1 serves", func() bool { return d.model().Frames > 0 })
	control, err := DialControl(c.ControlSocket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := control.Install(t.Context(), bytes.NewReader(packed(t, 2)), false); err != nil {
		t.Fatal(err)
	}
	eventually(t, "release 2 serves in the end", func() bool { return d.model().Release == 2 })
	if s := d.model(); s.Errors != 0 || s.Builds[buildFailed] != 3 || s.Reason != "" {
		t.Errorf("%+v, want no error, three failed builds, and nothing to be said", s)
	}
}

func TestSubscribersLearnThatANewReleaseCannotBeBuilt(t *testing.T) {
	t.Parallel()
	c := testConfig(t, bars())
	c.Releases.RequireSignature = false
	c.Models[0].WhileBuilding = "wait"
	sub := subscribe(t, "mqtt://"+c.MQTT.Embedded)
	b := &scripted{name: "tensorrt", lanes: 1, building: func(_ context.Context, n int, _ func(BuildProgress)) error {
		if n > 1 {
			return errScripted
		}
		return nil
	}}
	d, _ := begin(t, c, Options{backend: b})
	eventually(t, "release 1 serves", func() bool { return d.model().Frames > 0 })
	control, err := DialControl(c.ControlSocket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := control.Install(t.Context(), bytes.NewReader(packed(t, 2)), false); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is said", func() bool {
		return slices.ContainsFunc(sub.on("sightd/box/releases/lite0"), func(s string) bool {
			return strings.Contains(s, `"release":2,"state":"staged"`) && strings.Contains(s, errScripted.Error())
		})
	})
	n := d.model().Frames
	eventually(t, "release 1 goes on", func() bool { return d.model().Frames > n && d.model().Release == 1 })
}

func TestTheCPUServesWhereTheEngineFailsOnAndOn(t *testing.T) {
	t.Parallel()
	c := testConfig(t, bars())
	everyFrame(c)
	sub := subscribe(t, "mqtt://"+c.MQTT.Embedded)
	b := &scripted{name: "tensorrt", lanes: 2}
	spare := &scripted{name: "ort", lanes: 1}
	slow := quick
	slow.wait, slow.most = 300*time.Millisecond, time.Hour
	d, _ := begin(t, c, Options{backend: b, spare: spare, pace: slow})
	eventually(t, "the engine serves", func() bool { s := d.model(); return !s.Interim && s.Frames > 5 })
	b.fail(errScripted)
	eventually(t, "the CPU serves", func() bool { return d.model().Interim })
	s := d.model()
	if s.State != modelServing || s.Errors < brokenAfter || !strings.Contains(s.Reason, "10 frames in a row: engine: "+errScripted.Error()) {
		t.Errorf("%+v", s)
	}
	eventually(t, "frames are classified", func() bool { return d.model().Frames > s.Frames+5 })
	b.fail(nil)
	eventually(t, "the engine serves again", func() bool { return !d.model().Interim })
	again := d.model()
	eventually(t, "frames go on", func() bool { return d.model().Frames > again.Frames+5 })
	if n, _, open := b.counted(); n != 1 || open != 1 {
		t.Errorf("%d builds, %d engines open; want it loaded again, and the broken one closed", n, open)
	}
	if s := d.model(); s.Reason != "" || s.Build != nil {
		t.Errorf("%+v, want nothing to be said any more", s)
	}
	var last uint64
	for _, e := range events(t, sub, "bars") {
		if seq := e.Data.Frame.Seq; seq <= last {
			t.Fatalf("frame %d after %d", seq, last)
		}
		last = e.Data.Frame.Seq
	}
	if len(b.faults)+len(spare.faults) > 0 {
		t.Errorf("faults %q %q", b.faults, spare.faults)
	}
}

func TestABrokenEngineIsOpenedAgainWhereNothingElseServes(t *testing.T) {
	t.Parallel()
	c := testConfig(t, bars())
	c.Models[0].WhileBuilding = "wait"
	b := &scripted{name: "tensorrt", lanes: 1}
	d, _ := begin(t, c, Options{backend: b, pace: quick})
	eventually(t, "the engine serves", func() bool { return d.model().Frames > 0 })
	b.fail(errScripted)
	eventually(t, "it has failed often", func() bool { return d.model().Errors > 3*brokenAfter })
	b.fail(nil)
	s := d.model()
	eventually(t, "it serves again", func() bool { now := d.model(); return now.Frames > s.Frames+5 && now.Reason == "" })
}

func TestSubscribersHearOfABuildAtMostOnceATick(t *testing.T) {
	t.Parallel()
	c := testConfig(t, CameraConfig{Name: "bars", Source: "test:bars"})
	c.Models[0].WhileBuilding = "wait"
	gate := make(chan struct{})
	d, err := New(c, Options{backend: &scripted{name: "tensorrt", lanes: 1, building: func(ctx context.Context, n int, progress func(BuildProgress)) error {
		for i := range 1000 {
			progress(BuildProgress{Phase: fmt.Sprint("phase ", i)})
		}
		return gated(gate)(ctx, n, progress)
	}}, pace: pace{tick: time.Hour, log: time.Hour, wait: time.Hour, most: time.Hour}, Worker: testenv.Worker(t), Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	said := 0
	u := d.units[0]
	progress := u.progress
	u.progress = func(rel *release.Release, r mqtt.Release) { said++; progress(rel, r) }
	runs(t, d)
	eventually(t, "it builds", func() bool { s := d.model(); return s.Build != nil && s.Build.Phase == "optimise" })
	close(gate)
	eventually(t, "it serves", func() bool { return d.model().State == modelServing })
	if said > 3 {
		t.Errorf("%d messages, want those of the beginnings and of the end alone", said)
	}
	if left, _ := filepath.Glob(filepath.Join(c.StateDir, "engines", buildPrefix+"*")); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}
