package daemon

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/mqtt"
	"github.com/sightd/sightd/release"
)

// tiny is a model of 8 × 8 pixels and three classes, which costs next to nothing; the
// demo's is of 224 × 224 and a thousand.
func tiny(parts ...string) string {
	return filepath.Join(append([]string{testenv.Root(), "release", "testdata", "tiny"}, parts...)...)
}

// spec writes a model.yaml of tiny under the name of the demo's model, and returns its
// path: the number given, and its lines changed as old, new, … It has no golden images,
// which the scripted back end knows nothing of. Each number has an engine of its own.
func spec(t *testing.T, number int, change ...string) string {
	t.Helper()
	text := fmt.Sprintf("name: lite0\nrelease: %d\nmodel: %s\ncalibration: %s\nlabels: %s\n", number, tiny("net.onnx"), tiny("calib.cache"), tiny("names.txt")) +
		fmt.Sprintf("precision: int8\ncoverage: %.3f\ninput: {mean: [127.5], std: [127.5]}\n", 1-float64(number)/1000)
	path := filepath.Join(t.TempDir(), "model.yaml")
	if err := os.WriteFile(path, []byte(strings.NewReplacer(change...).Replace(text)), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// packed is the release of a spec as an archive.
func packed(t *testing.T, number int, change ...string) []byte {
	t.Helper()
	rel, err := release.Open(spec(t, number, change...))
	if err != nil {
		t.Fatal(err)
	}
	defer rel.Close()
	var out bytes.Buffer
	if err := rel.WriteArchive(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestAnInstalledReleaseTakesOverBetweenTwoFrames(t *testing.T) {
	t.Parallel()
	c := testConfig(t, CameraConfig{Name: "noise", Source: "test:noise?each=true"})
	c.Releases.RequireSignature = false
	c.Releases.Proof = ProofConfig{} // FP32 is slower and larger
	d, _ := start(t, c, false)
	u := d.units[0]
	eventually(t, "frames are classified", func() bool { return u.Status().Frames > 5 })
	control, err := DialControl(c.ControlSocket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := control.Install(t.Context(), bytes.NewReader(packed(t, 2, "precision: int8", "precision: fp32")), false); err != nil {
		t.Fatal(err)
	}
	eventually(t, "release 2 serves", func() bool { return u.Status().Release == 2 })
	s := u.Status()
	if s.Precision != "fp32" || s.Factory || s.Errors != 0 {
		t.Errorf("after the change: %+v", s)
	}
	eventually(t, "frames go on", func() bool { return u.Status().Frames > s.Frames+5 })
	status, err := control.Releases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if m := status.Models[0]; m.Serving != 2 || m.Releases[1].State != release.Serving {
		t.Errorf("release status: %+v", m)
	}
}

func TestAReleaseThatIsRefusedChangesNothing(t *testing.T) {
	t.Parallel()
	c := testConfig(t, CameraConfig{Name: "noise", Source: "test:noise"})
	c.Releases.RequireSignature = false
	d, _ := start(t, c, false)
	u := d.units[0]
	eventually(t, "frames are classified", func() bool { return u.Status().Frames > 0 })
	control, err := DialControl(c.ControlSocket)
	if err != nil {
		t.Fatal(err)
	}
	good := packed(t, 2)
	for want, archive := range map[string][]byte{
		"isn't newer":    packed(t, 1),
		"no model other": packed(t, 2, "name: lite0", "name: other"),
		"":               good[:len(good)/2],
	} {
		_, err := control.Install(t.Context(), bytes.NewReader(archive), false)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one that says %q", err, want)
		}
	}
	staging, err := os.ReadDir(filepath.Join(c.StateDir, "staging"))
	if err != nil || len(staging) > 0 {
		t.Errorf("left in staging: %v, %v", staging, err)
	}
	if s := u.Status(); s.Release != 1 || s.State != modelServing {
		t.Errorf("%+v serves, want release 1", s)
	}
}

func TestSignaturesAreDemandedOfEverybody(t *testing.T) {
	t.Parallel()
	c := testConfig(t, CameraConfig{Name: "noise", Source: "test:noise"})
	start(t, c, false)
	var control *Control
	eventually(t, "the control socket answers", func() (ok bool) {
		var err error
		control, err = DialControl(c.ControlSocket)
		return err == nil
	})
	_, err := control.Install(t.Context(), bytes.NewReader(packed(t, 2)), false)
	if err == nil || !strings.Contains(err.Error(), "require_signature") {
		t.Errorf("error %v, want one that names require_signature", err)
	}
}

func installWhileStopped(t *testing.T, c *Config, archive []byte) {
	t.Helper()
	c.Releases.RequireSignature = false // keys are looked at before it serves, too
	store, err := release.OpenStore(c.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	rel, err := store.OpenArchive("the release", bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Install(rel, release.Policy{}, release.Options{Factory: 1}); err != nil {
		t.Fatal(err)
	}
	rel.Close()
}

func TestTheNextStartServesTheInstalledRelease(t *testing.T) {
	t.Parallel()
	c := testConfig(t, CameraConfig{Name: "noise", Source: "test:noise"})
	installWhileStopped(t, c, packed(t, 2))
	d, _ := start(t, c, false)
	eventually(t, "release 2 serves", func() bool { s := d.Status().Models[0]; return s.Release == 2 && !s.Factory })
}

func TestTheFactoryReleaseServesWhereTheInstalledOneCannot(t *testing.T) {
	t.Parallel()
	c := testConfig(t, CameraConfig{Name: "table", Source: photos()})
	installWhileStopped(t, c, packed(t, 2))
	// A disk that lost part of a file.
	model := filepath.Join(c.StateDir, "releases", "lite0", "2", "model.onnx")
	if err := os.Truncate(model, 100); err != nil {
		t.Fatal(err)
	}
	d, done := start(t, c, true)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if s := d.Status().Models[0]; s.Release != 1 || !s.Factory {
		t.Errorf("%+v served, want the factory release", s)
	}
}

func TestEveryFrameIsClassifiedOnceAcrossAHandOver(t *testing.T) {
	t.Parallel()
	c := testConfig(t, CameraConfig{Name: "noise", Source: "test:noise?each=true"})
	c.Releases.RequireSignature = false
	c.Events.Mode, c.Events.MinScore, c.Events.MaxRate = "every", 0, 0
	sub := subscribe(t, "mqtt://"+c.MQTT.Embedded)
	d, _ := start(t, c, false)
	control, err := DialControl(c.ControlSocket)
	if err != nil {
		t.Fatal(err)
	}
	events := func() []string { return sub.on("sightd/box/noise/events") }
	for release := 1; release <= 3; release++ {
		if release > 1 {
			if _, err := control.Install(t.Context(), bytes.NewReader(packed(t, release)), false); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, fmt.Sprintf("release %d serves", release), func() bool { return d.units[0].Status().Release == release })
		n := len(events())
		eventually(t, "frames go on", func() bool { return len(events()) > n+3 })
	}
	var last uint64
	for _, raw := range events() {
		var e mqtt.Event
		if err := json.Unmarshal([]byte(raw), &e); err != nil {
			t.Fatal(err)
		}
		if seq := e.Data.Frame.Seq; last != 0 && seq != last+1 {
			t.Errorf("frame %d after %d", seq, last)
		}
		last = e.Data.Frame.Seq
	}
}

func TestAModelThatFailedServesTheReleaseInstalledNext(t *testing.T) {
	t.Parallel()
	c := testConfig(t, CameraConfig{Name: "noise", Source: "test:noise"})
	c.Releases.RequireSignature = false
	c.Models = append(c.Models, ModelConfig{Name: "other", Release: t.TempDir()})
	d, _ := start(t, c, false)
	other := d.units[1]
	eventually(t, "the other model has failed", func() bool { return other.Status().State == modelFailed })
	eventually(t, "the good one serves", func() bool { return d.units[0].Status().State == modelServing })
	status, err := d.Releases()
	if err != nil || status.Models[1].Serving != 0 {
		t.Errorf("%+v, %v: want none to serve", status, err)
	}
	control, err := DialControl(c.ControlSocket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := control.Install(t.Context(), bytes.NewReader(packed(t, 2, "name: lite0", "name: other")), false); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it serves", func() bool { s := other.Status(); return s.State == modelServing && s.Frames > 0 })
}

func TestTheControlSocketReplacesNothingThatLives(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "precious.txt")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenControl(file); err == nil {
		t.Error("a file was replaced")
	}
	socket := filepath.Join(dir, "control.sock")
	l, err := listenControl(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := listenControl(socket); err == nil || !strings.Contains(err.Error(), "another sightd") {
		t.Errorf("error %v, want one that names another sightd", err)
	}
}
