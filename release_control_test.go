package main

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sightd/sightd/release"
)

// listening answers at a configuration's control socket as a daemon would.
func listening(t *testing.T, config string, install http.HandlerFunc) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(filepath.Dir(config), "control.sock"))
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/releases", install)
	mux.HandleFunc("GET /v1/releases", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"models":[{"name":"tiny","serving":7,"confirmed":6,"releases":[]}]}`)
	})
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: mux}}
	s.Start()
	t.Cleanup(s.Close)
}

func TestInstallInARunningDaemon(t *testing.T) {
	t.Parallel()
	config, _ := tinyConfig(t)
	listening(t, config, func(w http.ResponseWriter, req *http.Request) {
		r, err := release.OpenArchive("sent", req.Body, t.TempDir())
		if err != nil {
			t.Error(err)
			return
		}
		defer r.Close()
		if r.Spec.Name != "tiny" || r.Spec.Release != 2 {
			t.Errorf("it was sent %+v", r.Spec)
		}
		w.WriteHeader(http.StatusNoContent)
	})
	status, _, stderr := sightd(t, "release", "install", tinyRelease(t, 2), "-c", config)
	if want := "release 2 of tiny is installed; the running daemon goes over to it when it is ready\n"; status != 0 || stderr != want {
		t.Errorf("status %d: %s", status, stderr)
	}
	status, stdout, _ := sightd(t, "release", "status", "--json", "-c", config)
	if want := `{"models":[{"name":"tiny","serving":7,"confirmed":6,"releases":[]}]}` + "\n"; status != 0 || stdout != want {
		t.Errorf("status %d: %s", status, stdout)
	}
}

func TestRunningDaemonRefusesARelease(t *testing.T) {
	t.Parallel()
	config, _ := tinyConfig(t)
	listening(t, config, func(w http.ResponseWriter, _ *http.Request) { // without reading it
		http.Error(w, "release 2 of tiny isn't newer", http.StatusUnprocessableEntity)
	})
	status, _, stderr := sightd(t, "release", "install", tinyRelease(t, 2), "-c", config)
	if status != 1 || !strings.Contains(stderr, "sightd: release 2 of tiny isn't newer") {
		t.Errorf("status %d: %s", status, stderr)
	}
}
