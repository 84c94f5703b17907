package main

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sightd/sightd/daemon"
	"github.com/sightd/sightd/release"
)

func TestOneModelsDamagedStateIsShownBesideTheOthers(t *testing.T) {
	t.Parallel()
	config, state := tinyConfig(t)
	succeeds(t, "release", "install", tinyRelease(t, 2), "-c", config)
	if err := os.MkdirAll(filepath.Join(state, "releases", "large"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(state, "releases", "large", "state.json"), []byte("{"))
	for _, what := range []string{"status", "list"} {
		o := command(t, "release", what, "-c", config)
		if o.status != 1 || !strings.Contains(o.stdout, "tiny   2        staged") || !strings.Contains(o.stderr, "read the state of large: ") {
			t.Errorf("%s: status %d: %s%s", what, o.status, o.stdout, o.stderr)
		}
		o = command(t, "release", what, "--json", "-c", config)
		var all release.Status
		if err := json.Unmarshal([]byte(o.stdout), &all); err != nil || o.status != 1 || len(all.Models) != 2 || all.Models[0].Error == "" {
			t.Errorf("%s: status %d, %v: %s", what, o.status, err, o.stdout)
		}
	}
	wantParts(t, command(t, "release", "status", "-c", config).stdout, "large  -        unknown", "  read the state of large: ")
	if o := command(t, "release", "wait", "large", "-c", config); o.status != 1 || !strings.Contains(o.stderr, "sightd: read the state of large: ") {
		t.Errorf("status %d: %s", o.status, o.stderr)
	}
	succeeds(t, "release", "list", "tiny", "-c", config)
}

func TestAReasonStandsInTheRowOfItsOwnRelease(t *testing.T) {
	t.Parallel()
	running := &daemon.Status{Models: []daemon.ModelStatus{{
		Name: "tiny", State: "serving", Release: 2, Reason: "release 3: no memory; the cache covers 98 %",
		Failure: "release 3: no memory", Failed: release.ID{Number: 3}, Standing: "the cache covers 98 %",
	}}}
	for id, want := range map[release.ID]string{
		{Number: 2}: "the cache covers 98 %", {Number: 3}: "release 3: no memory", {Number: 2, Revision: 5}: "", {Number: 4}: "",
	} {
		if got := doing(running, "tiny", id); got != want {
			t.Errorf("%s: %q, want %q", id, got, want)
		}
	}
}

// First its drop is on its way, then it is there. The name is short since the socket's is
// made of it.
func TestWaitForDrop(t *testing.T) {
	t.Parallel()
	config, _ := tinyConfig(t)
	var looks atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/releases", func(w http.ResponseWriter, _ *http.Request) {
		entries := ""
		if looks.Add(1) > 2 {
			entries = `{"number":7,"state":"confirmed","code":"","reason":""}`
		}
		_, _ = w.Write([]byte(`{"models":[{"name":"tiny","serving":1,"confirmed":1,"releases":[` + entries + `]}]}`))
	})
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"inbox":{"dir":"/var/in","drops":[` +
			`{"drop":"tiny-7","name":"tiny","number":7,"state":"received","code":"missing-file","reason":"model.onnx isn't there yet"},` +
			`{"drop":"tiny-8","name":"tiny","number":8,"state":"rejected","code":"bad-hash","reason":"one byte is another"}]}}`))
	})
	l, err := net.Listen("unix", filepath.Join(filepath.Dir(config), "control.sock"))
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: mux}}
	s.Start()
	t.Cleanup(s.Close)
	o := command(t, "release", "wait", "tiny", "7", "-c", config)
	want := "release 7 of tiny is not installed yet: it is waited for; drops go into /var/in; tiny-7 lies there: model.onnx isn't there yet\nrelease 7 of tiny: confirmed\n"
	if o.status != 0 || o.stderr != want {
		t.Errorf("status %d: %s\nwanted %s", o.status, o.stderr, want)
	}
	o = command(t, "release", "wait", "tiny", "8", "-c", config)
	if o.status != 3 || o.stderr != "release 8 of tiny, the drop tiny-8: rejected (bad-hash): one byte is another\n" {
		t.Errorf("status %d: %s", o.status, o.stderr)
	}
}

func TestASingleFileThatDoesNotFitIsNotSigned(t *testing.T) {
	t.Parallel()
	secret, public, _ := keyPair(t)
	base := tinyRelease(t, 7)
	file := write(t, filepath.Join(t.TempDir(), "tiny.cache"), []byte("TRT-8501-EntropyCalibration2\n"))
	o := command(t, "release", "sign", file, "-s", secret, "--for", "tiny:7", "--manifest-of", base)
	wantRefusal(t, o, 1, "refused (cache-does-not-fit)")
	if _, err := os.Stat(file + ".minisig"); err == nil {
		t.Error("it is signed")
	}
	// Signed as it was, and another one since.
	good := write(t, filepath.Join(t.TempDir(), "tiny.cache"), tinyFile(t, "calib.cache"))
	succeeds(t, "release", "sign", good, "-s", secret, "--for", "tiny:7", "--manifest-of", base)
	succeeds(t, "release", "verify", good, "--key", public, "--manifest-of", base)
}

func TestPackWarnsOfGoldenImagesThatTheCPUAnswersOtherwise(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(tiny)); err != nil {
		t.Fatal(err)
	}
	spec := filepath.Join(dir, "model.yaml")
	if err := os.RemoveAll(filepath.Join(dir, "golden")); err != nil {
		t.Fatal(err)
	}
	picture(t, filepath.Join(dir, "golden", "ant.png"), grey)
	picture(t, filepath.Join(dir, "golden", "bee.png"), slope)
	index := filepath.Join(dir, "golden", "index.tsv")
	for text, warns := range map[string]bool{"file\tclass\nant.png\t0\nbee.png\t1\n": false, "file\tclass\nant.png\t0\nbee.png\t0\n": true} {
		write(t, index, []byte(text))
		out := filepath.Join(t.TempDir(), "out")
		o := packGolden(t, spec, "-o", out)
		wantParts(t, o.stderr, out+" holds release 1 of tiny: 8×8 pixels, 3 classes, int8, the cache covers 100.0 %\n")
		if strings.Contains(o.stderr, "warning: golden images: the CPU doesn't answer 1 of 2 in int8 as their index says (the first: bee.png: found ") != warns {
			t.Errorf("%q: %s", text, o.stderr)
		}
	}
}
