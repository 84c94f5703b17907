package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/mqtt"
	"github.com/sightd/sightd/release"
)

// tinyFirst is the number of the first release of tiny that tests install: what the
// scripted back end is told holds for a number, so the models' differ.
const tinyFirst = 101

// tinySpec is a spec under the name of tiny.
func tinySpec(t *testing.T, number int) string {
	t.Helper()
	return spec(t, number, "name: lite0", "name: tiny")
}

// packedTiny is a release of tiny as an archive's path.
func packedTiny(t *testing.T, number int) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "tiny.tar.zst")
	if _, err := release.Pack(tinySpec(t, number), out); err != nil {
		t.Fatal(err)
	}
	return out
}

// sideBySide has two models look at two cameras: bars is for both, noise for tiny alone.
func sideBySide(t *testing.T, c *Config) {
	t.Helper()
	c.Models = append(c.Models, ModelConfig{Name: "tiny", Release: tinySpec(t, 1), WhileBuilding: "cpu"})
	noise := c.Cameras[0]
	noise.Name, noise.Source, noise.Models = "noise", "test:noise?each=true", []string{"tiny"}
	c.Cameras = append(c.Cameras, noise)
}

func newPair(t *testing.T, change func(*Config, *scripted)) *stage {
	t.Helper()
	s := newStage(t, func(c *Config, b *scripted) {
		sideBySide(t, c)
		if change != nil {
			change(c, b)
		}
	})
	eventually(t, "both serve", func() bool { return s.tiny().Frames > 3 })
	return s
}

// tiny is the status of the second model.
func (s *stage) tiny() ModelStatus { return s.Status().Models[1] }

func (s *stage) installTiny(number int) {
	s.t.Helper()
	rel, err := release.Open(packedTiny(s.t, number))
	if err != nil {
		s.t.Fatal(err)
	}
	defer rel.Close()
	if _, err := s.take(rel, release.Options{}); err != nil {
		s.t.Fatal(err)
	}
}

// becomes waits for what becomes of a release of tiny.
func (s *stage) becomes(number int, state release.State) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("tiny's release %d is %s", number, state), func() bool {
		all, err := s.store.List("tiny")
		return err == nil && slices.ContainsFunc(all, func(e release.Entry) bool { return e.Number == number && e.State == state })
	})
}

// unbroken holds the events of a model on a camera to be of every frame, in order, and
// returns the releases that they name.
func unbroken(t *testing.T, sub *subscriber, camera, model string) (releases []int) {
	t.Helper()
	last := uint64(0)
	for _, e := range events(t, sub, camera) {
		if e.Data.Model.Name != model {
			continue
		}
		if e.Data.Frame.Seq != last+1 {
			t.Fatalf("model %s on camera %s: frame %d after %d", model, camera, e.Data.Frame.Seq, last)
		}
		last = e.Data.Frame.Seq
		releases = append(releases, e.Data.Model.Release)
	}
	return slices.Compact(releases)
}

// With the real back end, engines of both geometries answer with their own labels.
func TestTwoModelsLookAtTheCamerasThatChooseThem(t *testing.T) {
	t.Parallel()
	c := demoConfig(t, CameraConfig{Name: "bars", Source: photos()})
	everyFrame(c)
	sideBySide(t, c)
	c.Cameras[1].Source = photos()
	sub := subscribe(t, "mqtt://"+c.MQTT.Embedded)
	d, done := start(t, c, true)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	labels := map[string][]string{"tiny": {"ant", "bee", "cat"}}
	seen := map[string]int{}
	engines := map[string]string{}
	for _, camera := range []string{"bars", "noise"} {
		for _, e := range events(t, sub, camera) {
			m := e.Data.Model
			seen[camera+" "+m.Name]++
			if engines[m.Name] == "" {
				engines[m.Name] = m.Engine
			}
			if known := labels[m.Name]; m.Engine != engines[m.Name] || known != nil && !slices.Contains(known, e.Data.Label) {
				t.Errorf("model %s by engine %s says %q", m.Name, m.Engine, e.Data.Label)
			}
		}
	}
	if len(seen) != 3 || seen["bars lite0"] != 5 || seen["bars tiny"] != 5 || seen["noise tiny"] != 5 {
		t.Errorf("events %v, want 5 of each model on bars and of tiny on noise", seen)
	}
	if engines["lite0"] == engines["tiny"] {
		t.Errorf("both have engine %q", engines["tiny"])
	}
	for topic, there := range map[string]bool{
		"bars/classification/lite0": true, "bars/classification/lite0/attributes": true, "releases/lite0": true,
		"bars/classification/tiny": true, "bars/classification/tiny/attributes": true, "releases/tiny": true,
		"noise/classification/tiny": true, "noise/classification/tiny/attributes": true,
		"noise/classification/lite0": false, "noise/classification/lite0/attributes": false,
	} {
		if got := len(sub.on("sightd/box/"+topic)) > 0; got != there {
			t.Errorf("%s is there: %v, want %v", topic, got, there)
		}
	}
	for _, cam := range d.Status().Cameras {
		var models []string
		for _, l := range cam.Labels {
			models = append(models, l.Model)
		}
		if want := map[string]string{"bars": "lite0 tiny", "noise": "tiny"}[cam.Name]; strings.Join(models, " ") != want {
			t.Errorf("camera %s has labels of %q, want %s", cam.Name, models, want)
		}
	}
}

func TestWhatBecomesOfOneModelsReleaseDoesNotTouchTheOther(t *testing.T) {
	t.Parallel()
	s := newPair(t, func(c *Config, _ *scripted) { c.Models[0].Release = testenv.Demo("lite0") }) // of another geometry
	// tiny changes over while lite0 serves on.
	s.installTiny(tinyFirst)
	s.becomes(tinyFirst, release.Confirmed)
	// A release of lite0 fails its proof.
	s.backend.failRelease(2, errScripted)
	s.install(2)
	s.wait(2, release.Rejected, release.ProofFailed)
	s.goesOn(1)
	// A good one takes over, and is left by hand.
	s.install(3)
	s.wait(3, release.Confirmed, "")
	s.goesOn(3)
	if err := s.rollBack(t.Context(), "lite0", release.ID{}, ""); err != nil {
		t.Fatal(err)
	}
	s.goesOn(1)

	if m := s.tiny(); m.State != modelServing || m.Release != tinyFirst || m.Errors != 0 || m.Degraded || m.Rejected != nil || m.RolledBack != nil {
		t.Errorf("tiny: %+v", m)
	}
	if m := s.model(); m.Errors != 0 || m.Rejected[release.ProofFailed] != 1 || m.RolledBack[release.ByHand] != 1 {
		t.Errorf("lite0: %+v", m)
	}
	for place, want := range map[string][]int{"bars tiny": {1, tinyFirst}, "noise tiny": {1, tinyFirst}, "bars lite0": {1, 3, 1}} {
		camera, model, _ := strings.Cut(place, " ")
		eventually(t, place+": the last release speaks", func() bool {
			all := unbroken(t, s.sub, camera, model)
			return slices.Equal(all, want)
		})
	}
	for model, want := range map[string]int{"lite0": 3, "tiny": tinyFirst} {
		for _, raw := range s.sub.on("sightd/box/releases/" + model) {
			var r mqtt.Release
			if err := json.Unmarshal([]byte(raw), &r); err != nil || r.Release > want || r.Release < tinyFirst == (model == "tiny") && r.Release != 1 {
				t.Errorf("releases/%s says %s", model, raw)
			}
		}
	}

	// `release status` and the metrics tell them apart.
	control, err := DialControl(s.c.ControlSocket)
	if err != nil {
		t.Fatal(err)
	}
	all, err := control.Releases(t.Context())
	if err != nil || len(all.Models) != 2 {
		t.Fatal(all, err)
	}
	if m := all.Models[0]; m.Name != "lite0" || m.Serving != 1 || len(m.Releases) != 3 {
		t.Errorf("release status: %+v", m)
	}
	if m := all.Models[1]; m.Name != "tiny" || m.Serving != tinyFirst || m.Confirmed != tinyFirst || len(m.Releases) != 2 {
		t.Errorf("release status: %+v", m)
	}
	metrics := get(t, "http://"+s.c.HTTP.Listen+"/metrics")
	for _, want := range []string{
		`sightd_release_state{model="lite0",release="1",state="confirmed"} 1`,
		`sightd_release_state{model="lite0",release="2",state="rejected"} 1`,
		`sightd_release_state{model="lite0",release="3",state="rolled back"} 1`,
		`sightd_release_state{model="tiny",release="101",state="confirmed"} 1`,
		`sightd_releases_rejected_total{code="proof-failed",model="lite0"} 1`,
		`sightd_release_rollbacks_total{code="by-hand",model="lite0"} 1`,
		`sightd_model_serving{model="tiny",release="101"} 1`,
		`sightd_model_degraded{model="tiny"} 0`,
	} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("the metrics lack %s", want)
		}
	}
	for _, no := range []string{`_rejected_total{code="proof-failed",model="tiny"}`, `rollbacks_total{code="by-hand",model="tiny"}`, "probation_served"} {
		if strings.Contains(metrics, no) {
			t.Errorf("the metrics have %s", no)
		}
	}
}

func TestASwapOfOneModelDoesNotPauseTheOther(t *testing.T) {
	t.Parallel()
	const first, second = tinyFirst, tinyFirst + 1
	in, out := make(chan string), make(chan struct{})
	var armed atomic.Bool // once the factory releases serve
	halt := func(doing string) {
		select {
		case in <- doing:
			<-out
		case <-t.Context().Done(): // the test is over
		}
	}
	s := newPair(t, func(c *Config, b *scripted) {
		for i := range c.Cameras { // that wait for nobody
			c.Cameras[i].Source = strings.TrimSuffix(c.Cameras[i].Source, "?each=true")
		}
		b.building = func(ctx context.Context, _ int, _ func(BuildProgress)) error {
			if armed.Load() {
				halt("building")
			}
			return ctx.Err()
		}
		b.closing = func(number int) {
			if number == first { // by tiny's runner, in the middle of its next swap
				halt("swapping")
			}
		}
	})
	expect := func(what string, models ...func() ModelStatus) {
		t.Helper()
		select {
		case got := <-in:
			if got != what {
				t.Errorf("tiny is %s, want %s", got, what)
			}
		case <-time.After(time.Minute):
			t.Fatalf("tiny isn't %s within a minute", what)
		}
		defer func() { out <- struct{}{} }()
		for _, m := range models {
			n := m()
			eventually(t, fmt.Sprintf("while tiny is %s, %s goes on", what, n.Name), func() bool { return m().Frames > n.Frames+5 })
		}
	}
	eventually(t, "both factory releases serve", func() bool { return s.model().Frames > 0 && s.tiny().Frames > 0 })
	armed.Store(true)
	s.installTiny(first)
	expect("building", s.model, s.tiny)
	s.becomes(first, release.Confirmed)
	s.installTiny(second)
	expect("building", s.model, s.tiny)
	expect("swapping", s.model)
	s.becomes(second, release.Confirmed)
	s.goesOn(1)
	if m := s.model(); m.Errors != 0 {
		t.Errorf("lite0: %+v", m)
	}
}

func TestAModelThatCannotBeServedDoesNotHinderTheOther(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(c *Config, _ *scripted) {
		sideBySide(t, c)
		c.Models[1].Release = t.TempDir() // no release
		c.Cameras[1].Source = "test:noise"
	})
	eventually(t, "tiny has failed", func() bool { return s.tiny().State == modelFailed })
	s.install(2)
	s.wait(2, release.Confirmed, "")
	s.goesOn(2)
	code, body := readyz(t, s.c)
	if code != 503 || !strings.Contains(body, "model tiny: failed: ") || strings.Contains(body, "lite0") {
		t.Errorf("readyz: %d %s", code, body)
	}
	if line := statusLine(s.Status()); !strings.Contains(line, "1 of 2 models serve") {
		t.Errorf("status line %q", line)
	}
	// It serves once it has a release.
	s.installTiny(tinyFirst)
	s.becomes(tinyFirst, release.Confirmed)
	eventually(t, "tiny serves", func() bool { m := s.tiny(); return m.State == modelServing && m.Frames > 0 })
	eventually(t, "ready", func() bool { return len(s.notReady()) == 0 })
	s.goesOn(2)
}

func TestAModelsDamagedStateDoesNotHinderTheOther(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(c *Config, _ *scripted) {
		sideBySide(t, c)
		dir := filepath.Join(c.StateDir, "releases", "tiny")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "state.json"), []byte("{"), 0o644); err != nil {
			t.Fatal(err)
		}
	})
	s.install(2)
	s.wait(2, release.Confirmed, "")
	s.goesOn(2)
	eventually(t, "tiny's factory release serves", func() bool { m := s.tiny(); return m.Release == 1 && m.Factory && m.Frames > 3 })
	if body := get(t, "http://"+s.c.HTTP.Listen+"/metrics"); !strings.Contains(body, `sightd_release_state{model="lite0",release="2",state="confirmed"} 1`) ||
		strings.Contains(body, `sightd_release_state{model="tiny"`) {
		t.Error("the metrics don't tell of lite0's releases alone")
	}
}

// Each key is for some models: what it signs for another is refused, and changes nothing
// there.
func TestAKeyIsTrustedForItsModelsAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	secret, public := filepath.Join(dir, "ants.key"), filepath.Join(dir, "ants.pub")
	if _, err := release.GenerateKey(secret, public, nil); err != nil {
		t.Fatal(err)
	}
	key, err := release.ReadSecretKey(secret, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := newPair(t, func(c *Config, _ *scripted) {
		c.Releases.RequireSignature = true
		c.Releases.Keys = []KeyConfig{{File: public, Names: []string{"tin*"}}}
	})
	control, err := DialControl(s.c.ControlSocket)
	if err != nil {
		t.Fatal(err)
	}
	install := func(archive string) error {
		t.Helper()
		if _, err := release.Sign(archive, key, time.Now()); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(archive)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		_, err = control.Install(t.Context(), f, false)
		return err
	}
	other := filepath.Join(dir, "lite0-2.tar.zst")
	if err := os.WriteFile(other, packed(t, 2), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := install(other); release.CodeOf(err) != release.NoTrustedKey {
		t.Errorf("lite0: %v, want %s", err, release.NoTrustedKey)
	}
	if _, there := s.entryOf(2); there {
		t.Error("the release is in the store")
	}
	if err := install(packedTiny(t, tinyFirst)); err != nil {
		t.Error(err)
	}
	s.becomes(tinyFirst, release.Confirmed)
	s.goesOn(1)
	// A model that the configuration doesn't have is refused, whoever signed.
	if _, err := control.Install(t.Context(), bytes.NewReader(packed(t, 2, "name: lite0", "name: tinder")), false); release.CodeOf(err) != release.UnknownModel {
		t.Errorf("tinder: %v, want %s", err, release.UnknownModel)
	}
}

func TestADegradedModelIsSaidToBe(t *testing.T) {
	t.Parallel()
	s := newPair(t, func(c *Config, _ *scripted) {
		c.Releases.Probation = seconds(3600)
		c.Models[1].Release = ""
		f, err := os.ReadFile(packedTiny(t, tinyFirst))
		if err != nil {
			t.Fatal(err)
		}
		installWhileStopped(t, c, f)
	})
	s.becomes(tinyFirst, release.Serving)
	check := func(when string) {
		t.Helper()
		eventually(t, when+": tiny is degraded", func() bool { return s.tiny().Degraded && s.tiny().Frames > 0 })
		eventually(t, when+": lite0 serves", func() bool { return len(s.notReady()) == 0 })
		if m := s.tiny(); !strings.Contains(m.Reason, "release 101 is degraded (failed-inferences): ") {
			t.Errorf("%s: reason %q", when, m.Reason)
		}
		if line := statusLine(s.Status()); !strings.HasPrefix(line, "tiny is degraded; 2 of 2 models serve") {
			t.Errorf("%s: status line %q", when, line)
		}
		if h := health(s.Status(), s.Status(), 0); !slices.Equal(h.Degraded, []string{"tiny"}) {
			t.Errorf("%s: health says %q", when, h.Degraded)
		}
		if code, body := readyz(t, s.c); code != 200 || body != "ok\ntiny is degraded\n" {
			t.Errorf("%s: readyz: %d %q", when, code, body)
		}
		if body := get(t, "http://"+s.c.HTTP.Listen+"/metrics"); !strings.Contains(body, `sightd_model_degraded{model="tiny"} 1`) ||
			!strings.Contains(body, `sightd_model_degraded{model="lite0"} 0`) {
			t.Errorf("%s: the metrics don't say so", when)
		}
	}
	s.backend.failRelease(tinyFirst, errScripted)
	eventually(t, "it is noted", func() bool { return s.tiny().Degraded })
	s.backend.failRelease(tinyFirst, nil)
	check("at once")
	s.stop()
	s.start()
	check("after a restart")
}
