package ota_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/release"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// device is a machine with a running sightd that has a camera, the small model's
// release 1 from the factory, and a short probation.
type device struct {
	t      *testing.T
	dir    string
	config string
	inbox  string
}

func newDevice(t *testing.T) *device {
	t.Helper()
	// Sockets need short paths.
	dir, err := os.MkdirTemp("", "ota-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	d := &device{t: t, dir: dir, config: filepath.Join(dir, "sightd.yaml"), inbox: filepath.Join(dir, "state", "inbox")}
	text := fmt.Sprintf(`device: here
state_dir: state
control_socket: control.sock
models: [{name: tiny, release: %q}]
cameras: [{name: door, source: "test:noise"}]
http: {listen: ""}
releases: {require_signature: false, probation: 1s}
`, filepath.Join(testenv.Root(), "release/testdata/tiny"))
	if err := os.WriteFile(d.config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	testenv.Worker(t)
	cmd := exec.Command(testenv.Sightd(t), "run", "-c", d.config)
	cmd.Env = d.env()
	log := new(testenv.Buffer)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", log)
		}
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		// Without the socket it would be the stopped daemon's store that answers.
		if _, err := os.Stat(filepath.Join(dir, "control.sock")); err == nil && d.model().Serving == 1 {
			return d
		}
		if time.Now().After(deadline) {
			t.Fatal("the factory release doesn't serve within a minute")
		}
	}
}

// env is the environment of the scripts on the device.
func (d *device) env() []string {
	return append(os.Environ(),
		"SIGHTD_ONNXRUNTIME="+testenv.ONNXRuntime(d.t),
		"OTA_SIGHTD="+testenv.Sightd(d.t), "OTA_CONFIG="+d.config,
		"OTA_TIMEOUT=2m", "OTA_INSTALL_TIMEOUT=2m", "OTA_COMMIT_TIMEOUT=2m")
}

// run runs a program on the device and returns its exit status and what it said.
func (d *device) run(dir, program string, args ...string) (status int, out string) {
	d.t.Helper()
	cmd := exec.CommandContext(d.t.Context(), program, args...)
	cmd.Dir, cmd.Env = dir, d.env()
	b, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		d.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(b)
}

// want runs a program that must end with the status.
func (d *device) want(status int, dir, program string, args ...string) string {
	d.t.Helper()
	found, out := d.run(dir, program, args...)
	if found != status {
		d.t.Errorf("%s %q: exit status %d, wanted %d:\n%s", filepath.Base(program), args, found, status, out)
	}
	return out
}

// sightd runs a command of release, which must succeed.
func (d *device) sightd(args ...string) string {
	d.t.Helper()
	return d.want(0, d.dir, testenv.Sightd(d.t), append([]string{"release"}, append(args, "-c", d.config)...)...)
}

// model is what the device says of its releases.
func (d *device) model() release.ModelStatus {
	d.t.Helper()
	cmd := exec.Command(testenv.Sightd(d.t), "release", "status", "--json", "-c", d.config)
	cmd.Env = d.env()
	var s release.Status
	if b, err := cmd.Output(); err != nil || json.Unmarshal(b, &s) != nil || len(s.Models) != 1 {
		return release.ModelStatus{} // it starts this moment
	}
	return s.Models[0]
}

// wantState holds a release to a state, and what serves to a number.
func (d *device) wantState(number int, state release.State, serving int) {
	d.t.Helper()
	var m release.ModelStatus
	// What is rolled back to takes a moment to serve.
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		m = d.model()
		if m.Serving == serving && stateOf(m, number) == state {
			return
		}
	}
	d.t.Errorf("release %d is %q and %d serves, wanted %q and %d", number, stateOf(m, number), m.Serving, state, serving)
}

// stateOf is empty for a release that isn't installed.
func stateOf(m release.ModelStatus, number int) release.State {
	for _, e := range m.Releases {
		if e.Number == number && !e.Factory {
			return e.State
		}
	}
	return ""
}

// packed makes a release of the small model.
func (d *device) packed(number int) string {
	d.t.Helper()
	dir := d.t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(testenv.Root(), "release/testdata/tiny"))); err != nil {
		d.t.Fatal(err)
	}
	spec := filepath.Join(dir, "model.yaml")
	b, err := os.ReadFile(spec)
	if err != nil {
		d.t.Fatal(err)
	}
	b = bytes.Replace(b, []byte("release: 1"), fmt.Append(nil, "release: ", number), 1)
	if err := os.WriteFile(spec, b, 0o644); err != nil {
		d.t.Fatal(err)
	}
	out := filepath.Join(d.t.TempDir(), fmt.Sprintf("tiny-%d.tar.zst", number))
	d.want(0, dir, testenv.Sightd(d.t), "release", "pack", spec, "-o", out)
	return out
}

// example is the path of an example's file.
func example(parts ...string) string {
	return filepath.Join(append([]string{testenv.Root(), "ota"}, parts...)...)
}

func copyFile(t *testing.T, from, to string, mode os.FileMode) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(to), 0o755)
	}
	if err == nil {
		err = os.WriteFile(to, b, mode)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// needs skips a test on a machine that lacks one of the programs.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, name := range programs {
		if _, err := exec.LookPath(name); err != nil {
			packages := map[string]string{"mender": "mender-client", "dbus-run-session": "dbus-daemon", "mksquashfs": "squashfs-tools"}
			t.Skipf("%v: apt install %s", err, cmp.Or(packages[name], name))
		}
	}
}

func wantParts(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("found:\n%s\nwanted %q in it", text, part)
		}
	}
}
