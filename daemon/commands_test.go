package daemon

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/jpeg"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"

	"github.com/sightd/sightd/camera"
	"github.com/sightd/sightd/mqtt"
	"github.com/sightd/sightd/release"
)

// commander sends commands to a staged daemon.
type commander struct {
	*stage
	client paho.Client
	ids    int
}

func newCommander(t *testing.T, change func(*Config, *scripted)) *commander {
	t.Helper()
	s := newStage(t, func(c *Config, b *scripted) {
		c.MQTT.Commands = []string{"snapshot", "rollback", "recalibrate-collect"}
		if change != nil {
			change(c, b)
		}
	})
	o := paho.NewClientOptions().AddBroker("mqtt://" + s.c.MQTT.Embedded).SetClientID("test-commander").SetAutoReconnect(false)
	c := &commander{stage: s, client: paho.NewClient(o)}
	if tok := c.client.Connect(); !tok.WaitTimeout(time.Minute) || tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	t.Cleanup(func() { c.client.Disconnect(50) })
	c.listens()
	return c
}

func (c *commander) listens() {
	c.t.Helper()
	eventually(c.t, "commands are received", func() bool { return c.Status().MQTT.Commands.Listening })
}

// send gives the reply to a command with these arguments.
func (c *commander) send(name, args string) mqtt.Reply {
	c.t.Helper()
	c.ids++
	return c.repeat(name, fmt.Sprint("id", c.ids), args)
}

func (c *commander) repeat(name, id, args string) mqtt.Reply {
	c.t.Helper()
	topic := "sightd/box/command/" + name
	before := len(c.sub.on(topic + "/reply"))
	payload := fmt.Sprintf(`{"id":%q,"expires":%q%s}`, id, time.Now().Add(time.Minute).UTC().Format(time.RFC3339), prefixed(",", args))
	if tok := c.client.Publish(topic, 1, false, payload); !tok.WaitTimeout(time.Minute) || tok.Error() != nil {
		c.t.Fatal(tok.Error())
	}
	eventually(c.t, "a reply", func() bool { return len(c.sub.on(topic+"/reply")) > before })
	var r mqtt.Reply
	if raw := c.sub.last(topic + "/reply"); json.Unmarshal([]byte(raw), &r) != nil || r.ID != id {
		c.t.Fatalf("reply %s", raw)
	}
	return r
}

func (c *commander) refused(name, args, code, words string) {
	c.t.Helper()
	r := c.send(name, args)
	if r.OK || r.Code != code || !strings.Contains(r.Error, words) {
		c.t.Errorf("%s %s: reply %+v, want code %s and %q in the error", name, args, r, code, words)
	}
}

func snapshotOf(t *testing.T, r mqtt.Reply) (Snapshot, image.Image) {
	t.Helper()
	var s Snapshot
	if err := json.Unmarshal(r.Result, &s); err != nil || !r.OK {
		t.Fatalf("reply %+v: %v", r, err)
	}
	img, err := jpeg.Decode(bytes.NewReader(s.Image))
	if err != nil {
		t.Fatal(err)
	}
	if size := img.Bounds().Size(); size.X != s.Width || size.Y != s.Height || s.ContentType != "image/jpeg" {
		t.Errorf("%dx%d and %s are said of a picture of %v", s.Width, s.Height, s.ContentType, size)
	}
	return s, img
}

func TestASnapshotShowsWhatTheCameraSees(t *testing.T) {
	t.Parallel()
	c := newCommander(t, func(c *Config, _ *scripted) { c.Cameras[0].Width, c.Cameras[0].Height = 640, 480 })
	before := c.Status().Cameras[0].Captured
	s, img := snapshotOf(t, c.send("snapshot", `"camera":"bars","width":320,"quality":90`))
	if s.Camera != "bars" || s.Width != 320 || s.Height != 240 || s.Quality != 90 || s.Frame == 0 {
		s.Image = nil
		t.Errorf("%+v", s)
	}
	if s.Frame+1 < before || time.Since(s.Captured.Time) > time.Minute || time.Until(s.Captured.Time) > time.Second {
		t.Errorf("frame %d of %v, with %d captured before", s.Frame, s.Captured, before)
	}
	// The first bar is white, the last black; a dark line may be in one of the rows.
	for x, want := range map[int]uint32{10: 255, 310: 0} {
		right := 0
		for _, y := range []int{20, 120, 220} {
			r, g, b, _ := img.At(x, y).RGBA()
			if mean := (r + g + b) / 3 >> 8; max(mean, want)-min(mean, want) < 40 {
				right++
			}
		}
		if right < 2 {
			t.Errorf("at %d it is not %d", x, want)
		}
	}
	before = c.model().Frames
	eventually(t, "frames go on", func() bool { return c.model().Frames > before+3 })
	c.ordered()
}

func TestASnapshotIsOfTheCropAlone(t *testing.T) {
	t.Parallel()
	c := newCommander(t, func(c *Config, _ *scripted) { c.Cameras[0].Crop = [4]float64{0.875, 0, 0.125, 0.5} })
	_, img := snapshotOf(t, c.send("snapshot", `"camera":"bars"`))
	if r, g, b, _ := img.At(img.Bounds().Dx()/4, 2).RGBA(); r>>8 > 40 || g>>8 > 40 || b>>8 > 40 {
		t.Errorf("%d, %d, %d, want the last bar, which is black", r>>8, g>>8, b>>8)
	}
}

func TestARepeatedSnapshotIsTheFirst(t *testing.T) {
	t.Parallel()
	c := newCommander(t, nil)
	first := c.repeat("snapshot", "same", `"camera":"bars"`)
	again := c.repeat("snapshot", "same", `"camera":"bars"`)
	if !first.OK || !bytes.Equal(first.Result, again.Result) {
		t.Error("another picture, or none")
	}
	if n := c.Status().MQTT.Commands.Repeated; n != 1 {
		t.Errorf("counted %d times", n)
	}
}

func TestSnapshotsThatAreRefused(t *testing.T) {
	t.Parallel()
	c := newCommander(t, nil)
	c.refused("snapshot", ``, mqtt.RefusedInvalid, "camera: missing")
	c.refused("snapshot", `"camera":"door"`, unknownCamera, "there are bars")
	c.refused("snapshot", `"camera":"bars","width":100000`, mqtt.RefusedInvalid, "16 to 1920")
	c.refused("snapshot", `"camera":"bars","quality":101`, mqtt.RefusedInvalid, "1 to 100")
	c.refused("snapshot", `"camera":"bars","with":640`, mqtt.RefusedInvalid, "did you mean")
	c.refused("recalibrate-collect", ``, unsupported, "no recalibrate-collect yet")
	families, err := c.metrics.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if problems, err := promlint.NewWithMetricFamilies(families).Lint(); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v, %v", problems, err)
	}
	if !slices.ContainsFunc(families, func(f *dto.MetricFamily) bool {
		return f.GetName() == "sightd_mqtt_commands_refused_total" && len(f.Metric) == 3
	}) {
		t.Error("the metrics don't tell of the three codes")
	}
	if s := c.Status().MQTT.Commands; s.Received != 6 || s.Refused[mqtt.RefusedInvalid] != 4 || s.Done != 0 {
		t.Errorf("%+v", s)
	}
}

func TestThereIsNoSnapshotOfACameraThatIsOff(t *testing.T) {
	t.Parallel()
	c := newCommander(t, func(c *Config, _ *scripted) {
		off := CameraConfig{}
		off.SetDefaults()
		off.Name, off.Source = "off", "v4l2:/dev/video-none"
		c.Cameras = append(c.Cameras, off)
	})
	c.refused("snapshot", `"camera":"off"`, noPicture, "offline")
}

func TestASnapshotIsBounded(t *testing.T) {
	t.Parallel()
	img := image.NewRGBA(image.Rect(0, 0, mostWidth, 1080))
	r := rand.New(rand.NewPCG(1, 2))
	for i := range img.Pix {
		img.Pix[i] = byte(r.Uint32())
	}
	small, data, quality, err := encodeWithin(img, usualQuality, maxJPEG)
	if err != nil || len(data) > maxJPEG || small.Rect.Dx() >= mostWidth || quality > usualQuality {
		t.Errorf("%d bytes, %v, quality %d: %v", len(data), small.Rect, quality, err)
	}
	if _, data, quality, err = encodeWithin(img, usualQuality, 100<<20); err != nil || quality != usualQuality || len(data) == 0 {
		t.Errorf("with room enough: quality %d, %v", quality, err)
	}
	if _, _, _, err = encodeWithin(img, usualQuality, 10); err == nil {
		t.Error("a picture of 10 bytes")
	}
}

func TestTheGeometryOfSnapshots(t *testing.T) {
	t.Parallel()
	whole := [4]float64{0, 0, 1, 1}
	for _, tc := range []struct {
		w, h, ask int
		region    [4]float64
		wide, hi  int
	}{
		{1920, 1080, 0, whole, 640, 360},
		{1920, 1080, 1920, whole, 1920, 1080},
		{320, 240, 0, whole, 320, 240},
		{1920, 1080, 640, [4]float64{0, 0, 0.5, 1}, 640, 720},
		{16, 8000, 0, whole, 7, 3840},
		{8000, 1, 0, whole, 640, 1},
		{1, 1, 0, whole, 1, 1},
	} {
		g := snapshotGeometry(view{region: tc.region}, camera.Status{Width: tc.w, Height: tc.h}, tc.ask)
		if g.Width != tc.wide || g.Height != tc.hi || g.Check() != nil {
			t.Errorf("%+v: %d×%d, %v", tc, g.Width, g.Height, g.Check())
		}
	}
}

func TestARollBackOverMQTT(t *testing.T) {
	t.Parallel()
	c := newCommander(t, func(c *Config, _ *scripted) { c.Releases.Probation = seconds(3600) })
	c.refused("rollback", `"model":"lite0"`, mqtt.RefusedInvalid, "release: missing")
	c.refused("rollback", `"model":"lite0","release":1,"reason":"a\u001b[2Jb"`, mqtt.RefusedInvalid, "reason: the control character U+001B at byte 2")
	c.refused("rollback", `"release":2`, mqtt.RefusedInvalid, "model: missing")
	c.refused("rollback", `"model":"other","release":2`, string(release.UnknownModel), "no model other")
	c.refused("rollback", `"model":"lite0","release":1`, noWayBack, "factory release")
	c.install(2)
	c.goesOn(2)
	c.refused("rollback", `"model":"lite0","release":1`, notServing, "serving 2")
	c.refused("rollback", `"model":"lite0","release":"2.1"`, notServing, "2.1 doesn't serve")

	r := c.repeat("rollback", "leave", `"model":"lite0","release":2,"reason":"too many cats"`)
	if want := `{"name":"lite0","from":"2","to":"1"}`; !r.OK || string(r.Result) != want {
		t.Errorf("reply %+v %s, want %s", r, r.Result, want)
	}
	c.goesOn(1)
	e, _ := c.entryOf(2)
	if e.State != release.RolledBack || e.Code != release.ByHand || !strings.Contains(e.Reason, "leave: too many cats") {
		t.Errorf("%+v", e)
	}

	// Once more, also after a restart: the first reply, and nothing is left.
	c.install(3)
	c.goesOn(3)
	if again := c.repeat("rollback", "leave", `"model":"lite0","release":3`); string(again.Result) != string(r.Result) {
		t.Errorf("repeated: %+v", again)
	}
	if c.model().Release != 3 {
		t.Error("the repeated command was obeyed")
	}
}

// The answer was lost with the process: what is known is that it was begun.
func TestARollBackThatWasInterruptedIsNotDoneAgain(t *testing.T) {
	t.Parallel()
	c := newCommander(t, func(c *Config, _ *scripted) { c.Releases.Probation = seconds(3600) })
	first := c.repeat("rollback", "leave", `"model":"lite0","release":1`)
	if first.Code != noWayBack {
		t.Fatalf("%+v", first)
	}
	c.client.Disconnect(50)
	c.stop()
	files, err := filepath.Glob(filepath.Join(c.commandDir(), "*.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("kept: %v, %v", files, err)
	}
	if info, err := os.Stat(files[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	var rec map[string]any
	if err := json.Unmarshal(b, &rec); err != nil {
		t.Fatal(err)
	}
	delete(rec, "reply") // as it was before the reply was there
	if b, err = json.Marshal(rec); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	c.sub = subscribe(t, "mqtt://"+c.c.MQTT.Embedded)
	c.start()
	o := paho.NewClientOptions().AddBroker("mqtt://" + c.c.MQTT.Embedded).SetClientID("again").SetAutoReconnect(false)
	c.client = paho.NewClient(o)
	if tok := c.client.Connect(); !tok.WaitTimeout(time.Minute) || tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	c.listens()
	c.install(2)
	c.goesOn(2)
	if r := c.repeat("rollback", "leave", `"model":"lite0","release":2`); r.OK || r.Code != mqtt.RefusedInterrupted {
		t.Errorf("reply %+v", r)
	}
	if c.model().Release != 2 {
		t.Error("it was obeyed")
	}
}

func TestCommandsAreOffByDefault(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	if s.Status().MQTT.Commands != nil || s.commands() != nil {
		t.Error("commands are taken")
	}
	if _, err := os.Stat(s.commandDir()); !os.IsNotExist(err) {
		t.Errorf("%s is made: %v", s.commandDir(), err)
	}
}

// As docs/operating.md shows it.
func TestCommandsByMosquittosTools(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"mosquitto_rr", "jq"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s isn't installed: apt install mosquitto-clients jq", tool)
		}
	}
	c := newCommander(t, nil)
	host, port, err := net.SplitHostPort(c.c.MQTT.Embedded)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(doc), "## Commands over MQTT")
	_, rest, _ = strings.Cut(rest, "```sh\n")
	script, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("docs/operating.md has no example under Commands over MQTT")
	}
	script = strings.NewReplacer("-h broker", "-h "+host+" -p "+port, "device1", "box", "cam0", "bars").Replace(script)
	for wrong, says := range map[string]string{
		strings.Replace(script, `"camera\": \"bars`, `"camera\": \"door`, 1):                              unknownCamera + ": there is no camera",
		strings.NewReplacer("-W 20", "-W 1", "-t sightd/box/command/snapshot", "-t none").Replace(script): "Timed out",
	} {
		cmd := exec.CommandContext(t.Context(), "bash", "-uc", wrong)
		cmd.Dir = t.TempDir()
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), says) || len(left(t, cmd.Dir)) > 0 {
			t.Errorf("%v\n%s\n%s, want %q, and no file", err, wrong, out, says)
		}
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-euc", script)
	cmd.Dir = t.TempDir()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, script, out)
	}
	f, err := os.Open(filepath.Join(cmd.Dir, "bars.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := jpeg.Decode(f); err != nil {
		t.Error(err)
	}
}

func TestTheKernelsWordOnTheClock(t *testing.T) {
	t.Parallel()
	c := &wallClock{}
	if err := c.set(); err != nil && !strings.Contains(err.Error(), "time server") {
		t.Error(err)
	}
	c.seen.Store(true)
	if err := c.set(); err != nil {
		t.Errorf("once seen: %v", err)
	}
}
