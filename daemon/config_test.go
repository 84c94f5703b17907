package daemon

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sightd/sightd/internal/strict"
	"github.com/sightd/sightd/release"
)

var update = flag.Bool("update", false, "write the .error files of testdata/config anew")

// Each testdata/config/NAME.bad.yaml has the error that is expected beside it,
// whole, in NAME.error.
func TestBadConfigurationsSayWhatIsWrong(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/config/*.bad.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no test data:", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".bad.yaml"), func(t *testing.T) {
			t.Parallel()
			c, err := LoadConfig(file, nil)
			if err == nil {
				t.Fatalf("it is taken: %+v", c)
			}
			got := strings.ReplaceAll(err.Error(), file, "sightd.yaml") + "\n"
			beside := strings.TrimSuffix(file, ".bad.yaml") + ".error"
			if *update {
				if err := os.WriteFile(beside, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(beside)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestGoodConfigurations(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/config/*.good.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no test data:", err)
	}
	for _, file := range files {
		c, err := LoadConfig(file, nil)
		if err != nil {
			t.Error(err)
			continue
		}
		shown, err := c.YAML()
		if err != nil {
			t.Fatal(err)
		}
		// What is shown can be read, and says the same.
		again, doc, err := parseConfig("shown", shown, nil)
		if err == nil {
			err = doc.Err()
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, shown)
		}
		if diff := cmp.Diff(asJSON(t, c), asJSON(t, again)); diff != "" {
			t.Errorf("%s: %s", file, diff)
		}
	}
}

func asJSON(t *testing.T, c *Config) string {
	t.Helper()
	b, err := json.MarshalIndent(c, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestFullConfigurationIsReadWhole(t *testing.T) {
	t.Parallel()
	c, err := LoadConfig("testdata/config/full.good.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.Abs("testdata/config")
	if err != nil {
		t.Fatal(err)
	}
	device, cores := "dla", "2"
	want := &Config{
		Device: "kiosk-7", StateDir: "/var/lib/sightd",
		Cameras: []CameraConfig{
			{
				Name: "door", Source: "v4l2:/dev/video0", Width: 1280, Height: 720, FPS: 15, Crop: [4]float64{0, 0.5, 1, 0.5},
				Stall: seconds(3), Scale: "hardware", Models: []string{"lite0"},
			},
			{Name: "yard", Source: "file:clip.mp4?loop=true", FPS: 15, Crop: [4]float64{0, 0, 1, 1}, Stall: seconds(2), Scale: "exact", Models: []string{}},
		},
		Models: []ModelConfig{
			{Name: "lite0", Release: "/usr/share/sightd/lite0", Placement: &PlacementOverride{Device: &device, Cores: &cores}, WhileBuilding: "wait"},
			{Name: "squeezenet", Release: filepath.Join(dir, "models/model.yaml"), WhileBuilding: "cpu"},
		},
		Inference: InferenceConfig{Backend: "ort", Threads: 2, Batch: 4, Workspace: 512 << 20, Quantization: "auto", Optimisation: "auto"},
		Events: Events{
			Mode: "every", MinScore: 0.4, Hold: milliseconds(250), MaxRate: 2.5,
			Labels: LabelsConfig{Allow: []string{"cat", "dog"}, Deny: []string{"tiger cat"}, MinScore: map[string]float64{"dog": 0.8}},
		},
		MQTT: MQTTConfig{
			URL: Brokers{"mqtts://broker:8883"}, Username: "me", PasswordFile: filepath.Join(dir, "secret"), CAFile: "/etc/ca.pem", CertFile: "/etc/c.pem", KeyFile: "/etc/k.pem",
			Prefix: "site/hall-1", Outbox: OutboxConfig{MaxBytes: 1e6, MaxAge: seconds(3600), Durability: "outage"}, Commands: []string{"snapshot", "rollback"},
			HomeAssistant: true, Embedded: "127.0.0.1:1883",
		},
		Releases: ReleasesConfig{
			Inbox: "/srv/inbox", Keys: []KeyConfig{{File: "/etc/sightd/fleet.pub"}, {File: filepath.Join(dir, "lab.pub"), Names: []string{"lite*"}}},
			Revoked: []string{"0123456789ABCDEF"}, Probation: seconds(60), Activate: "window", Window: Window{22 * 60, 5*60 + 30}, Build: "window",
			Memory: "refuse", Keep: 1, AllowUnsignedEngines: true, Proof: ProofConfig{Frames: 4, Latency: 1.5},
		},
		HTTP: HTTPConfig{Listen: ":8080"}, ControlSocket: "/tmp/control.sock", Collect: CollectConfig{MaxBytes: 1 << 30},
	}
	if diff := cmp.Diff(want, c, cmp.AllowUnexported(CameraConfig{}, ModelConfig{})); diff != "" {
		t.Error(diff)
	}
}

func TestShippedExampleIsTheDefaults(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("sightd.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, doc, err := parseConfig("example", data, nil)
	if err == nil {
		err = doc.Err()
	}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(asJSON(t, DefaultConfig()), asJSON(t, c)); diff != "" {
		t.Error(diff)
	}
	// It names every key.
	for _, key := range keysOf(t, DefaultConfig()) {
		if !regexp.MustCompile(`\b` + key + `:`).Match(data) {
			t.Errorf("the key %s is not in the example", key)
		}
	}
}

// What is commented out in the example is right too, and says the defaults.
func TestCommentedLinesOfTheExample(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("sightd.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(`(?m)^#  `).ReplaceAllString(string(data), "  ")
	text = regexp.MustCompile(`(?m)^(cameras|models): \[\]`).ReplaceAllString(text, "$1:")
	c, doc, err := parseConfig("example", []byte(text), nil)
	if err == nil {
		c.validate(doc)
		err = doc.Err()
	}
	if err != nil {
		t.Fatal(err)
	}
	var camera CameraConfig
	camera.SetDefaults()
	camera.Name, camera.Source = "door", "v4l2:/dev/video0"
	var model ModelConfig
	model.SetDefaults()
	model.Name, model.Release, model.Placement = "lite0", "/usr/share/sightd/lite0", new(PlacementOverride)
	if diff := cmp.Diff([]CameraConfig{camera}, c.Cameras, cmp.AllowUnexported(CameraConfig{})); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]ModelConfig{model}, c.Models, cmp.AllowUnexported(ModelConfig{})); diff != "" {
		t.Error(diff)
	}
}

func keysOf(t *testing.T, v any) (keys []string) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`"([a-z_]+)":`).FindAllSubmatch(b, -1) {
		keys = append(keys, string(m[1]))
	}
	return keys
}

func load(t *testing.T, text string, environ ...string) (*Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sightd.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return LoadConfig(path, environ)
}

func TestEnvironmentGoesOverTheFile(t *testing.T) {
	t.Parallel()
	c, err := load(t, "mqtt: {url: 'mqtt://file'}\nmodels: [{name: m}]\n",
		"SIGHTD_MQTT_URL=mqtt://environment:1883", "SIGHTD_EVENTS_MIN_SCORE=0.25", "SIGHTD_MQTT_OUTBOX_MAX_AGE=1h",
		"SIGHTD_CAMERAS=[{name: a, source: 'test:bars'}, {name: b, source: 'images:x', models: [m]}]",
		"SIGHTD_CAMERAS_0_FPS=3", "SIGHTD_RELEASES_KEYS=[/k.pub]", "SIGHTD_DEVICE={hostname}-x", "SIGHTD_ONNXRUNTIME=/lib/x.so", "SIGHTD_TENSORRT=/lib/y.so", "PATH=/bin")
	if err != nil {
		t.Fatal(err)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	got := []any{c.MQTT.URL[0], c.Events.MinScore, time.Duration(c.MQTT.Outbox.MaxAge), len(c.Cameras), c.Cameras[0].FPS, c.Cameras[1].Models[0], c.Releases.Keys[0].File, c.Device}
	want := []any{"mqtt://environment:1883", 0.25, time.Hour, 2, 3.0, "m", "/k.pub", host + "-x"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	_, err = load(t, "", "SIGHTD_MQTT_ULR=x")
	if err == nil || err.Error() != "SIGHTD_MQTT_ULR: no key of the configuration has this name: did you mean SIGHTD_MQTT_URL?" {
		t.Error(err)
	}
	_, err = load(t, "", "SIGHTD_HTTP_LISTEN=nowhere")
	if err == nil || !strings.HasPrefix(err.Error(), `SIGHTD_HTTP_LISTEN: http.listen: found "nowhere", wanted an address and a port`) {
		t.Error(err)
	}
}

func TestPathsThatDependOnOthers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "sightd.yaml")
	if err := os.WriteFile(path, []byte("state_dir: state\ncontrol_socket: c.sock\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := LoadConfig(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{c.StateDir, c.Releases.Inbox, c.ControlSocket}
	if diff := cmp.Diff([]string{dir + "/state", dir + "/state/inbox", dir + "/c.sock"}, got); diff != "" {
		t.Error(diff)
	}
	if got := defaultSocket("/state", dir); got != dir+"/control.sock" {
		t.Error("where the run directory is there:", got)
	}
	if got := defaultSocket("/state", dir+"/none"); got != "/state/control.sock" {
		t.Error("where it isn't:", got)
	}
}

func TestDeviceNames(t *testing.T) {
	t.Parallel()
	m := machine{
		hostname: func() (string, error) { return "box", nil },
		readFile: func(path string) ([]byte, error) {
			if path == "/etc/machine-id" {
				return []byte("0a1b\n"), nil
			}
			if path == "/proc/device-tree/serial-number" {
				return []byte("1424\x00"), nil
			}
			return nil, errors.New("not here")
		},
	}
	for name, want := range map[string]string{
		"plain": "plain", "{hostname}": "box", "a-{serial}-{machine-id}": "a-1424-0a1b",
		"{host}": "error: found {host}, wanted {hostname}, {machine-id} or {serial}", "a{": `error: found "{" without a closing brace`,
	} {
		got, err := m.expand(name)
		if err != nil {
			got = "error: " + err.Error()
		}
		if got != want {
			t.Errorf("%s becomes %s, wanted %s", name, got, want)
		}
	}
	m.readFile = func(string) ([]byte, error) { return nil, errors.New("no such file") }
	if _, err := m.expand("{serial}"); err == nil || err.Error() != "this machine has no {serial}: no such file; write a name instead" {
		t.Error(err)
	}
}

func TestBrokersAreOneOrSeveral(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		text, env, shown string
		want             Brokers
	}{
		{text: "''", shown: `url: ""`},
		{text: "[]", shown: `url: ""`},
		{text: "mqtt://a", shown: "url: mqtt://a\n", want: Brokers{"mqtt://a"}},
		{text: "[mqtt://a]", shown: "url: mqtt://a\n", want: Brokers{"mqtt://a"}},
		{text: "[mqtt://a, 'mqtts://b:1']", shown: "- mqtts://b:1\n", want: Brokers{"mqtt://a", "mqtts://b:1"}},
		{text: "mqtt://a", env: "mqtt://b:1, mqtts://c,wss://d/x?y=1,2", shown: "- wss://d/x?y=1,2\n", want: Brokers{"mqtt://b:1", "mqtts://c", "wss://d/x?y=1,2"}},
		{text: "mqtt://a", env: "[mqtt://b, mqtt://c]", shown: "- mqtt://c\n", want: Brokers{"mqtt://b", "mqtt://c"}},
	} {
		var environ []string
		if tc.env != "" {
			environ = append(environ, "SIGHTD_MQTT_URL="+tc.env)
		}
		c, err := load(t, "mqtt: {url: "+tc.text+"}\n", environ...)
		if err != nil {
			t.Errorf("%s, %s: %v", tc.text, tc.env, err)
			continue
		}
		if diff := cmp.Diff(tc.want, c.MQTT.URL, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s, %s: %s", tc.text, tc.env, diff)
		}
		if shown, err := c.Redacted().YAML(); err != nil || !strings.Contains(string(shown), tc.shown) {
			t.Errorf("%s, %s: %v, shown as\n%s", tc.text, tc.env, err, shown)
		}
	}
}

// A name without a slash is that of a credential which systemd hands over, where
// there is one.
func TestCredentialsOfSystemd(t *testing.T) {
	t.Parallel()
	handed := t.TempDir()
	for _, name := range []string{"password", "key.pem"} {
		if err := os.WriteFile(filepath.Join(handed, name), []byte("x"), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	const text = "mqtt: {username: me, password_file: password, ca_file: ca.pem, cert_file: ./key.pem, key_file: key.pem}\n"
	for _, tc := range []struct {
		name    string
		environ []string
		handed  bool
	}{
		{"handed over", []string{"CREDENTIALS_DIRECTORY=" + handed}, true},
		{"none", nil, false},
		{"an empty variable", []string{"CREDENTIALS_DIRECTORY="}, false},
		{"another folder", []string{"CREDENTIALS_DIRECTORY=" + t.TempDir()}, false},
	} {
		c, err := load(t, text, tc.environ...)
		if err != nil {
			t.Fatal(err)
		}
		m := c.MQTT
		got := map[string]bool{}
		for key, path := range map[string]string{"password": m.PasswordFile, "ca": m.CAFile, "cert": m.CertFile, "key": m.KeyFile} {
			if !filepath.IsAbs(path) {
				t.Errorf("%s: %s of %s isn't whole", tc.name, path, key)
			}
			got[key] = filepath.Dir(path) == handed
		}
		if diff := cmp.Diff(map[string]bool{"password": tc.handed, "ca": false, "cert": false, "key": tc.handed}, got); diff != "" {
			t.Errorf("%s: which are credentials: %s", tc.name, diff)
		}
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	t.Parallel()
	c, err := load(t, "cameras: [{name: a, source: 'rtsp://u:s3cret@cam/1'}]\n")
	if err != nil {
		t.Fatal(err)
	}
	shown, err := c.Redacted().YAML()
	if err != nil || strings.Contains(string(shown), "s3cret") || !strings.Contains(string(shown), "rtsp://u:***@cam/1") {
		t.Errorf("%v\n%s", err, shown)
	}
	if c.Cameras[0].Source != "rtsp://u:s3cret@cam/1" {
		t.Error("showing changed the configuration")
	}
	// Nor in errors.
	_, err = load(t, "mqtt: {url: 'mqtts://me:s3cret@broker'}\ncameras: [{name: a, source: 'http://u:s3cret@cam/1'}]\n")
	if err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Error(err)
	}
}

func TestValues(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Size{"0": 0, "12": 12, "1.5KiB": 1536, "256MiB": 256 << 20, "1 GB": 1e9, "7B": 7} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%s is read as %d, %v, wanted %d", text, s, err, want)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1Mi", "1XB", "99999999TiB", "1e3"} {
		if new(Size).UnmarshalText([]byte(text)) == nil {
			t.Errorf("the size %q is taken", text)
		}
	}
	for s, want := range map[Size]string{0: "0", 256 << 20: "256MiB", 1000: "1000", 3 << 30: "3GiB", 1 << 10: "1KiB"} {
		if got, _ := s.MarshalText(); string(got) != want {
			t.Errorf("%d is written %s, wanted %s", s, got, want)
		}
	}
	for text, good := range map[string]bool{"02:00-04:00": true, "23:30-00:15": true, "24:00-01:00": false, "2:00-4:00": false, "02:00-02:00": false} {
		if err := new(Window).UnmarshalText([]byte(text)); (err == nil) != good {
			t.Errorf("window %s: %v", text, err)
		}
	}
	at := func(h, m int) time.Time { return time.Date(2026, 1, 2, h, m, 30, 0, time.Local) }
	over := Window{23 * 60, 60}
	if !over.Contains(at(23, 0)) || !over.Contains(at(0, 59)) || over.Contains(at(1, 0)) || over.Contains(at(12, 0)) {
		t.Error("a window over midnight")
	}
	day := Window{120, 240}
	if !day.Contains(at(2, 0)) || day.Contains(at(4, 0)) || day.Contains(at(1, 59)) {
		t.Error("a window in a day")
	}
}

func TestPlacementOverride(t *testing.T) {
	t.Parallel()
	p := release.DefaultSpec().Placement
	if got := (*PlacementOverride)(nil).Over(p); got != p {
		t.Error("none changes", got)
	}
	gpu, no := "gpu", false
	want := p
	want.Device, want.Fallback = "gpu", false
	if got := (&PlacementOverride{Device: &gpu, Fallback: &no}).Over(p); got != want {
		t.Error(cmp.Diff(want, got))
	}
}

func FuzzConfig(f *testing.F) {
	for _, pattern := range []string{"testdata/config/*.yaml", "sightd.example.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, doc, err := parseConfig("f", data, nil)
		var all strict.Errors
		if err != nil {
			if !errors.As(err, &all) {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		c.validate(doc)
		if doc.Err() != nil {
			return
		}
		if _, err := c.Redacted().YAML(); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzBrokers(f *testing.F) {
	for _, s := range []string{"", "mqtt://a", "mqtt://a,mqtts://b", " , ,x://,,y://", "wss://a/b?c=1,2 , ws://d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var b Brokers
		if err := b.UnmarshalText([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(text, "://"); len(b) > n+1 {
			t.Errorf("%q is read as %d brokers", text, len(b))
		}
		shown, err := json.Marshal(b)
		if err != nil || !json.Valid(shown) {
			t.Errorf("%q is shown as %s, %v", text, shown, err)
		}
	})
}
