package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
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
		if hold := req.URL.Query().Get("hold"); hold != "false" {
			t.Errorf("it was asked to hold it: %s", hold)
		}
		io.WriteString(w, `{"name":"tiny","release":{"number":2,"state":"staged","code":"","reason":""}}`)
	})
	status, stdout, stderr := sightd(t, "release", "install", "--json", tinyRelease(t, 2), "-c", config)
	if want := "release 2 of tiny is installed; the running daemon goes over to it when it is ready\n"; status != 0 || stderr != want {
		t.Errorf("status %d: %s", status, stderr)
	}
	if want := `{"name":"tiny","release":{"number":2,"state":"staged","code":"","reason":""}}` + "\n"; stdout != want {
		t.Errorf("it says %s", stdout)
	}
	status, stdout, _ = sightd(t, "release", "status", "--json", "-c", config)
	if want := `{"models":[{"name":"tiny","serving":7,"confirmed":6,"releases":[]}]}` + "\n"; status != 0 || stdout != want {
		t.Errorf("status %d: %s", status, stdout)
	}
}

func TestRunningDaemonRefusesARelease(t *testing.T) {
	t.Parallel()
	config, _ := tinyConfig(t)
	listening(t, config, func(w http.ResponseWriter, _ *http.Request) { // without reading it
		w.WriteHeader(http.StatusUnprocessableEntity)
		io.WriteString(w, `{"code":"not-newer","reason":"release 2 of tiny isn't newer"}`)
	})
	status, _, stderr := sightd(t, "release", "install", tinyRelease(t, 2), "-c", config)
	if status != 1 || !strings.Contains(stderr, "sightd: refused (not-newer): release 2 of tiny isn't newer") {
		t.Errorf("status %d: %s", status, stderr)
	}
}

// telling answers at a configuration's control socket with one state of release 2
// after the other, the last for good.
func telling(t *testing.T, config string, states ...string) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(filepath.Dir(config), "control.sock"))
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/releases", func(w http.ResponseWriter, _ *http.Request) {
		state := states[min(int(asked.Add(1)), len(states))-1]
		fmt.Fprintf(w, `{"models":[{"name":"tiny","serving":1,"confirmed":1,"releases":[{"number":2,%s}]}]}`, state)
	})
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "{}") })
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: mux}}
	s.Start()
	t.Cleanup(s.Close)
}

// Its name is short since those of the sockets are made of it.
func TestWaitsEnd(t *testing.T) {
	t.Parallel()
	const (
		staged    = `"state":"staged"`
		proven    = `"state":"proven"`
		serving   = `"state":"serving"`
		confirmed = `"state":"confirmed"`
	)
	for name, c := range map[string]struct {
		states []string
		flags  string
		status int
		want   string // on standard error
	}{
		"confirmed":         {[]string{staged, proven, serving, confirmed}, "", 0, "release 2 of tiny: staged\nrelease 2 of tiny: proven\nrelease 2 of tiny: serving\nrelease 2 of tiny: confirmed\n"},
		"by number":         {[]string{confirmed}, "2", 0, "release 2 of tiny: confirmed\n"},
		"serving is enough": {[]string{staged, serving}, "--for serving", 0, "serving\n"},
		"proven is enough":  {[]string{proven}, "--for proven", 0, "proven\n"},
		"beyond":            {[]string{confirmed}, "--for proven", 0, "confirmed\n"},
		"rejected":          {[]string{staged, `"state":"rejected","code":"golden","reason":"3 of 9 are right"`}, "", 3, "release 2 of tiny: rejected (golden): 3 of 9 are right\n"},
		"rolled back":       {[]string{serving, `"state":"rolled back","code":"by-hand","reason":"asked for"`}, "", 4, "rolled back (by-hand): asked for\n"},
		"degraded":          {[]string{`"state":"serving","degraded":true,"code":"too-slow","reason":"too slow"`}, "", 4, "serving, degraded (too-slow): too slow\n"},
		"not in time":       {[]string{serving}, "--timeout 0", 5, "release 2 of tiny isn't confirmed after 0s\n"},
		"held":              {[]string{`"state":"staged","held":true`}, "--timeout 0", 5, "release 2 of tiny: staged, held\n"},
		"overtaken":         {[]string{`"state":"proven","held":true,"code":"superseded","reason":"release 3 serves, which is newer"`}, "", 1, "was overtaken: release 3 serves, which is newer"},
		"not there yet":     {[]string{staged}, "7 --timeout 0", 5, "release 7 of tiny is not installed yet: it is waited for; drops go into "},
		"no such revision":  {[]string{staged}, "2.5 --timeout 0", 5, "release 2.5 of tiny isn't confirmed after 0s\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config, _ := tinyConfig(t)
			telling(t, config, c.states...)
			o := command(t, append([]string{"release", "wait", "-c", config, "tiny"}, strings.Fields(c.flags)...)...)
			if o.status != c.status || o.stdout != "" || !strings.Contains(o.stderr, c.want) {
				t.Errorf("status %d: %s%s\nwanted %d and %s", o.status, o.stdout, o.stderr, c.status, c.want)
			}
		})
	}
}

func TestReleasesOfAStoppedDaemonAreChanged(t *testing.T) {
	t.Parallel()
	config, _ := tinyConfig(t)
	archive := tinyRelease(t, 2)
	on := func(args ...string) outcome {
		t.Helper()
		return command(t, append([]string{"release"}, append(args, "-c", config)...)...)
	}
	wantSaid := func(o outcome, parts ...string) {
		t.Helper()
		if o.status != 0 {
			t.Errorf("exit status %d", o.status)
		}
		wantParts(t, o.stdout+o.stderr, parts...)
	}
	wantSaid(on("install", "--hold", archive), "release 2 of tiny is installed and held: it waits for sightd release activate")
	wantSaid(on("install", archive), "release 2 of tiny is installed already: it is staged, held")
	wantSaid(on("list", "tiny"), "tiny   1        factory       yes", "tiny   2        staged, held")
	wantSaid(on("show", "tiny", "2"), "release    2 of tiny", "state      staged, held", "precision  int8", "model.onnx, 803 bytes", "signer     none known")
	wantSaid(on("show", "--json", "tiny", "1"), `{"name":"tiny","id":"1","release":{"number":1,"state":"confirmed"`, `"serves":true`, `"files":[{"path":`)
	wantSaid(on("activate", "tiny", "2"), "release 2 of tiny serves when it is ready")
	wantSaid(on("remove", "tiny", "2"), "release 2 of tiny is removed")

	wantRefusal(t, on("show", "tiny", "2"), 1, "release 2 of tiny is not installed: `sightd release list -c FILE tiny`")
	wantRefusal(t, on("activate", "tiny", "2"), 1, "release 2 of tiny is not in the store any more: install it again")
	wantRefusal(t, on("remove", "tiny", "2"), 1, "release 2 of tiny is not installed")
	wantRefusal(t, on("list", "large"), 1, `there is no model "large"`, `["tiny"]`)
	wantRefusal(t, on("rollback", "large"), 1, `there is no model "large"`)
	wantRefusal(t, on("rollback", "tiny", "2"), 1, "release 2 of tiny")
	wantRefusal(t, on("rollback", "tiny"), 1, "release 1 of tiny")
}
