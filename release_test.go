package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightd/sightd/release"
)

const tiny = "release/testdata/tiny"

// sightd runs a command line as main does.
func sightd(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	status = run(&app{ctx: t.Context(), stdin: strings.NewReader(""), stdout: &out, stderr: &err}, args)
	return status, out.String(), err.String()
}

// configured writes a sightd.yaml with a state directory of its own.
func configured(t *testing.T, more string) (path, stateDir string) {
	t.Helper()
	dir := t.TempDir()
	path = filepath.Join(dir, "sightd.yaml")
	text := "device: here\nstate_dir: state\ncontrol_socket: control.sock\n" + more
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path, filepath.Join(dir, "state")
}

// tinyRelease packs the small model of package release's tests.
func tinyRelease(t *testing.T, number int) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(tiny)); err != nil {
		t.Fatal(err)
	}
	spec := filepath.Join(dir, "model.yaml")
	b, err := os.ReadFile(spec)
	if err != nil {
		t.Fatal(err)
	}
	b = bytes.Replace(b, []byte("release: 1"), fmt.Append(nil, "release: ", number), 1)
	if err := os.WriteFile(spec, b, 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "tiny.tar.zst")
	if _, err := release.Pack(spec, out); err != nil { // the command tries the golden images besides
		t.Fatal(err)
	}
	return out
}

func tinyConfig(t *testing.T) (path, stateDir string) {
	t.Helper()
	factory, err := filepath.Abs(tiny)
	if err != nil {
		t.Fatal(err)
	}
	return configured(t, "releases: {require_signature: false}\nmodels: [{name: tiny, release: "+factory+"}]\n")
}

func TestInstallForAStoppedDaemon(t *testing.T) {
	t.Parallel()
	config, _ := tinyConfig(t)
	status, _, stderr := sightd(t, "release", "install", tinyRelease(t, 2), "-c", config)
	if want := "release 2 of tiny is installed; no daemon runs here, the next one takes it up\n"; status != 0 || stderr != want {
		t.Fatalf("status %d: %s", status, stderr)
	}
	status, stdout, stderr := sightd(t, "release", "status", "--json", "-c", config)
	var got release.Status
	if err := json.Unmarshal([]byte(stdout), &got); status != 0 || err != nil {
		t.Fatalf("status %d, %v: %s%s", status, err, stdout, stderr)
	}
	if len(got.Models) != 1 || got.Models[0].Serving != 1 || got.Models[0].Confirmed != 1 || len(got.Models[0].Releases) != 2 {
		t.Errorf("%+v", got)
	}
	_, stdout, _ = sightd(t, "release", "status", "-c", config)
	want := "MODEL  RELEASE  STATE    SERVES  REASON\ntiny   1        factory  yes     \ntiny   2        staged           \n"
	if diff := cmp.Diff(want, stdout); diff != "" {
		t.Error(diff)
	}
}

func TestRefusedInstallsSayWhyAndChangeNothing(t *testing.T) {
	t.Parallel()
	config, state := tinyConfig(t)
	strict, _ := configured(t, "models: [{name: tiny}]\n")
	unknown, _ := configured(t, "releases: {require_signature: false}\n")
	for _, c := range []struct{ release, config, want string }{
		{tinyRelease(t, 1), config, "sightd: refused (not-newer): release 1 of tiny isn't newer than 1, the factory release"},
		{tinyRelease(t, 2), strict, "sightd: refused (no-trusted-key): releases must be signed, but no key is trusted"},
		{tinyRelease(t, 2), unknown, "sightd: the configuration has no model tiny: add it under models"},
		{filepath.Join(tiny, "names.txt"), config, "sightd: refused (bad-manifest): "},
		{filepath.Join(tiny, "none"), config, "no such file or directory"},
	} {
		status, _, stderr := sightd(t, "release", "install", c.release, "-c", c.config)
		if status != 1 || !strings.Contains(stderr, c.want) {
			t.Errorf("status %d: %s\nwanted %s", status, stderr, c.want)
		}
	}
	if entries, err := os.ReadDir(filepath.Join(state, "releases")); err == nil {
		t.Error("it left", entries)
	}
}

func TestInstallWhileADaemonStarts(t *testing.T) {
	t.Parallel()
	config, state := tinyConfig(t)
	lock, err := release.TakeLock(state)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	status, _, stderr := sightd(t, "release", "install", tinyRelease(t, 2), "-c", config)
	if want := fmt.Sprintf("is in use by process %d, and nothing answers at its control socket", os.Getpid()); status != 1 || !strings.Contains(stderr, want) {
		t.Errorf("status %d: %s", status, stderr)
	}
}

func TestConfigCheckAndShow(t *testing.T) {
	t.Parallel()
	good, state := configured(t, "models: [{name: tiny}]\ncameras: [{name: door, source: 'rtsp://me:s3cret@camera'}]\n")
	status, stdout, stderr := sightd(t, "config", "check", "-c", good)
	if status != 0 || stdout != "" || !strings.HasSuffix(stderr, "is a good configuration\n") {
		t.Errorf("status %d: %s%s", status, stdout, stderr)
	}
	status, stdout, _ = sightd(t, "config", "show", "-c", good)
	if status != 0 || !strings.Contains(stdout, "source: rtsp://me:***@camera\n") || !strings.Contains(stdout, "state_dir: "+state+"\n") {
		t.Errorf("status %d: %s", status, stdout)
	}
	status, stdout, _ = sightd(t, "config", "show", "--json", "-c", good)
	if status != 0 || !json.Valid([]byte(stdout)) || strings.Contains(stdout, "s3cret") {
		t.Errorf("status %d: %s", status, stdout)
	}
	bad, _ := configured(t, "mqtt:\n  urll: x\n")
	for _, command := range []string{"check", "show"} {
		status, stdout, stderr = sightd(t, "config", command, "-c", bad)
		if status != 1 || stdout != "" || !strings.Contains(stderr, bad+`:5:3: mqtt: unknown key "urll": did you mean "url"?`) {
			t.Errorf("status %d: %s%s", status, stdout, stderr)
		}
	}
	if status, _, _ := sightd(t, "config", "check"); status != 2 {
		t.Errorf("without a file the status is %d", status)
	}
}
