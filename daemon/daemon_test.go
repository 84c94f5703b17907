package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/mqtt"
	"github.com/sightd/sightd/trt"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "build-child" {
		os.Exit(trt.Child(os.Args[2]))
	}
	if len(os.Args) > 1 && os.Args[1] == "probe-child" {
		os.Exit(trt.ProbeChild(strings.Join(os.Args[2:], "")))
	}
	os.Setenv("SIGHTD_ONNXRUNTIME", filepath.Join(testenv.Root(), "lib/sightd/libonnxruntime.so"))
	goleak.VerifyTestMain(m)
}

// demoConfig is a configuration with the demo's model and a broker inside, for what
// only a real model tells.
func demoConfig(t *testing.T, cameras ...CameraConfig) *Config {
	t.Helper()
	c := testConfig(t, cameras...)
	c.Models[0].Release = testenv.Demo("lite0")
	return c
}

// testConfig is the same with a tiny model.
func testConfig(t *testing.T, cameras ...CameraConfig) *Config {
	t.Helper()
	c := DefaultConfig()
	c.Device = "box"
	c.StateDir = t.TempDir()
	c.ControlSocket = filepath.Join(c.StateDir, "control.sock")
	c.HTTP.Listen = freeAddress(t)
	c.MQTT.Embedded = freeAddress(t)
	c.Events.Hold = 0
	c.Inference.Threads = 1
	for _, cam := range cameras {
		full := CameraConfig{}
		full.SetDefaults()
		full.Name, full.Source = cam.Name, cam.Source
		if strings.HasPrefix(cam.Source, "test:") { // which is drawn pixel by pixel
			full.Width, full.Height = 64, 48
		}
		c.Cameras = append(c.Cameras, full)
	}
	c.Models = []ModelConfig{{Name: "lite0", Release: spec(t, 1), WhileBuilding: "cpu"}}
	return c
}

func freeAddress(t *testing.T) string {
	t.Helper()
	// Below the ports that outgoing connections of other tests get meanwhile.
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(20000)))
	for err != nil {
		l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(20000)))
	}
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start runs a daemon until the test ends or, untilEnd, its sources do. What
// it returned comes on the channel.
func start(t *testing.T, c *Config, untilEnd bool) (*Daemon, <-chan error) {
	t.Helper()
	d, err := New(c, Options{Version: "1.2.3", Worker: testenv.Worker(t), UntilEnd: untilEnd, Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	return d, runs(t, d)
}

// runs a daemon until the test ends, or it does.
func runs(t *testing.T, d *Daemon) <-chan error {
	ctx, cancel := context.WithCancel(t.Context())
	done, ended := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(ended)
		done <- d.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return done
}

func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(testWriter{t}, nil))
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func photos() string { return "images:" + testenv.Demo("photos") + "?each=true" }

func TestEveryPhotographIsClassifiedAndItsEventDelivered(t *testing.T) {
	t.Parallel()
	c := demoConfig(t, CameraConfig{Name: "table", Source: photos()})
	c.Events.Mode, c.Events.MinScore, c.Events.MaxRate = "every", 0, 0
	sub := subscribe(t, "mqtt://"+c.MQTT.Embedded)
	_, done := start(t, c, true)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	events := sub.on("sightd/box/table/events")
	files, err := os.ReadDir(testenv.Demo("photos"))
	if err != nil {
		t.Fatal(err)
	}
	if len(events) != len(files) {
		t.Fatalf("%d events for %d photographs: %s", len(events), len(files), strings.Join(events, "\n"))
	}
	var labels []string
	for i, raw := range events {
		var e mqtt.Event
		if err := json.Unmarshal([]byte(raw), &e); err != nil {
			t.Fatalf("%v in %s", err, raw)
		}
		labels = append(labels, e.Data.Label)
		if e.Data.Frame.Seq != uint64(i+1) || e.Data.Model.Name != "lite0" || e.Data.Model.Release != 1 || e.Data.Model.Engine == "" {
			t.Errorf("event %d: %s", i, raw)
		}
	}
	for _, want := range []string{"espresso", "tripod", "palace"} {
		if !slices.Contains(labels, want) {
			t.Errorf("no %s among %q", want, labels)
		}
	}
	for topic, want := range map[string]string{
		"sightd/box/status":       "offline",
		"sightd/box/table/status": "offline",
	} {
		if got := sub.last(topic); got != want {
			t.Errorf("%s says %q at the end, want %q", topic, got, want)
		}
	}
	if sub.last("sightd/box/health") == "" || sub.last("sightd/box/releases/lite0") == "" {
		t.Error("no health, or no state of the release, was published")
	}
}

func TestTheCurrentLabelFollowsTheVideo(t *testing.T) {
	t.Parallel()
	c := demoConfig(t, CameraConfig{Name: "table", Source: "file:" + testenv.Demo("video.mp4") + "?each=true"})
	sub := subscribe(t, "mqtt://"+c.MQTT.Embedded)
	_, done := start(t, c, true)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	states := sub.on("sightd/box/table/classification/lite0")
	for _, want := range []string{"espresso", "tripod", "palace"} {
		if !slices.Contains(states, want) {
			t.Errorf("%s was never the current label: %q", want, states)
		}
	}
	var a mqtt.Attributes
	if err := json.Unmarshal([]byte(sub.last("sightd/box/table/classification/lite0/attributes")), &a); err != nil || a.Release != 1 {
		t.Errorf("attributes: %+v, %v", a, err)
	}
}

func TestAStoredEngineIsLoadedAtTheNextStart(t *testing.T) {
	t.Parallel()
	c := demoConfig(t, CameraConfig{Name: "table", Source: photos()})
	for _, stored := range []bool{false, true} {
		d, done := start(t, c, true)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if e := d.Status().Models[0].Engine; e == nil || e.Stored != stored {
			t.Errorf("engine %+v, want stored: %v", e, stored)
		}
	}
}

func TestADamagedStoredEngineIsBuiltAgain(t *testing.T) {
	t.Parallel()
	c := testConfig(t, CameraConfig{Name: "table", Source: photos()})
	_, done := start(t, c, true)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	engines, _ := filepath.Glob(filepath.Join(c.StateDir, "engines", "*.engine"))
	if len(engines) != 1 {
		t.Fatalf("engines %q, want one", engines)
	}
	b, err := os.ReadFile(engines[0])
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(engines[0], b, 0o644); err != nil {
		t.Fatal(err)
	}
	d, done := start(t, c, true)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if e := d.Status().Models[0].Engine; e == nil || e.Stored {
		t.Errorf("engine %+v, want one built again", e)
	}
}

func TestReadyOnceFramesAreClassified(t *testing.T) {
	t.Parallel()
	c := testConfig(t, CameraConfig{Name: "bars", Source: "test:bars"})
	d, _ := start(t, c, false)
	eventually(t, "ready", func() bool { return len(d.notReady()) == 0 })
	for path, want := range map[string]string{
		"/readyz":          "ok",
		"/healthz":         "ok",
		"/metrics":         `sightd_camera_online{camera="bars"} 1`,
		"/api/v1/status":   `"ready": true`,
		"/api/v1/releases": `"factory": true`,
		"/":                "<title>sightd</title>",
	} {
		if body := get(t, "http://"+c.HTTP.Listen+path); !strings.Contains(body, want) {
			t.Errorf("%s lacks %q:\n%s", path, want, body)
		}
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	http.DefaultClient.CloseIdleConnections()
	return string(b)
}

func TestTwoCamerasShareOneEngineFairly(t *testing.T) {
	t.Parallel()
	c := testConfig(t,
		CameraConfig{Name: "left", Source: "test:noise?frames=60&each=true"},
		CameraConfig{Name: "right", Source: "test:bars?frames=60&each=true"})
	d, done := start(t, c, true)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for _, cam := range d.Status().Cameras {
		if cam.Classified != 60 {
			t.Errorf("camera %s: %d of 60 frames classified", cam.Name, cam.Classified)
		}
	}
}

func TestAFrameAllocatesNothing(t *testing.T) {
	c := testConfig(t, CameraConfig{Name: "noise", Source: "test:noise"})
	d, _ := start(t, c, false)
	u := d.units[0]
	eventually(t, "serving", func() bool { return u.Status().Frames > 3 })
	w := newWatch("other", "lite0", c.Events, silent{})
	p := &Prepared{Labels: make([]string, 1000)}
	for i := range p.Labels {
		p.Labels[i] = fmt.Sprint(i)
	}
	w.serve(mqtt.Model{}, p)
	scores, top := make([]float32, 1000), make([]Score, 5)
	scores[7] = 0.4 // below every least score: no event, no state
	frame := struct{ at time.Duration }{}
	if n := testing.AllocsPerRun(200, func() {
		frame.at += time.Millisecond
		n, _ := topK(top, scores, 0)
		u.infer.Observe(0.001)
		w.observe(testFrame(frame.at), scores, top[:n], time.Millisecond, frame.at)
	}); n != 0 {
		t.Errorf("%v allocations a frame, want none", n)
	}
}

func TestABatchTakesTheFramesThatAreThere(t *testing.T) {
	t.Parallel()
	c := demoConfig(t,
		CameraConfig{Name: "left", Source: photos()},
		CameraConfig{Name: "right", Source: photos()})
	c.Inference.Batch = 4
	c.Events.Mode, c.Events.MinScore, c.Events.MaxRate = "every", 0, 0
	sub := subscribe(t, "mqtt://"+c.MQTT.Embedded)
	_, done := start(t, c, true)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	labels := func(camera string) (all []string) {
		for _, raw := range sub.on("sightd/box/" + camera + "/events") {
			var e mqtt.Event
			if err := json.Unmarshal([]byte(raw), &e); err != nil {
				t.Fatal(err)
			}
			all = append(all, e.Data.Label)
		}
		return all
	}
	if left, right := labels("left"), labels("right"); len(left) != 5 || !slices.Equal(left, right) {
		t.Errorf("the same photographs on two cameras: %q and %q", left, right)
	}
}

func TestWhatTheCPUComputesIsSaid(t *testing.T) {
	t.Parallel()
	c := testConfig(t, CameraConfig{Name: "table", Source: photos()})
	d, err := New(c, Options{Worker: testenv.Worker(t), UntilEnd: true, Log: testLog(t), precision: "fp16"})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := d.Status().Models[0]; s.Precision != "fp32" || s.Reason == "" {
		t.Errorf("%+v, want FP32 and the reason", s)
	}
}

func TestTheStatesOfARemovedCameraAreCleared(t *testing.T) {
	t.Parallel()
	broker, err := mqtt.StartBroker("127.0.0.1:0", testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { broker.Close() })
	sub := subscribe(t, broker.URL())
	c := testConfig(t, CameraConfig{Name: "old", Source: photos()}, CameraConfig{Name: "new", Source: photos()})
	c.MQTT.Embedded, c.MQTT.URL = "", Brokers{broker.URL()}
	_, done := start(t, c, true)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	topic := "sightd/box/old/classification/lite0"
	eventually(t, "the old camera has a label", func() bool { return sub.last(topic) != "" })
	c.Cameras = c.Cameras[1:]
	_, done = start(t, c, true)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for _, topic := range []string{topic, topic + "/attributes", "sightd/box/old/status"} {
		eventually(t, topic+" is cleared", func() bool { return sub.last(topic) == "" })
	}
	if sub.last("sightd/box/new/classification/lite0") == "" {
		t.Error("the other camera's label is cleared too")
	}
}
