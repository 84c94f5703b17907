package main

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// doctorsChecks are the lines of a doctor who looks at a configuration, by name.
func doctorsChecks(t *testing.T, config string, more ...string) map[string]check {
	t.Helper()
	o := program(t, append([]string{"doctor", "--json", "-c", config}, more...)...)
	var found struct {
		Checks []check `json:"checks"`
	}
	if err := json.Unmarshal([]byte(o.stdout), &found); err != nil {
		t.Fatalf("%v: %s%s", err, o.stdout, o.stderr)
	}
	missing := slices.ContainsFunc(found.Checks, func(c check) bool { return c.State == checkMissing })
	if (o.status == 1) != missing {
		t.Errorf("exit status %d:\n%s", o.status, o.stdout)
	}
	all := map[string]check{}
	for _, c := range found.Checks {
		all[c.Name] = c
	}
	return all
}

func wantCheck(t *testing.T, c check, state string, parts ...string) {
	t.Helper()
	if c.State != state {
		t.Errorf("%+v, wanted it to be %s", c, state)
	}
	wantParts(t, c.Found, parts...)
}

// What is right is told as well, and nothing is made.
func TestTheDoctorLooksAtReleasesAndCameras(t *testing.T) {
	t.Parallel()
	config, _ := serviceConfig(t, "test:bars", "")
	unchanged(t, filepath.Dir(config))
	found := doctorsChecks(t, config)
	wantCheck(t, found["model tiny"], checkOK, "release 1 of ")
	wantCheck(t, found["camera door"], checkOK, "test:bars")
	wantCheck(t, found["mqtt"], checkNone, "mqtt.url isn't set")

	config, _ = configured(t, `models: [{name: gone, release: nothere}, {name: other, release: `+abs(t, tiny)+`}, {name: none}]
cameras: [{name: clip, source: 'file:/no/clip.mp4'}, {name: yard, source: 'rtsp://u:hunter2@camera/1'}]
mqtt: {commands: [snapshot]}
`)
	found = doctorsChecks(t, config)
	wantCheck(t, found["model gone"], checkMissing, "nothere: no such file")
	wantCheck(t, found["model other"], checkMissing, "holds a release of tiny")
	wantCheck(t, found["model none"], checkNone)
	wantCheck(t, found["camera clip"], checkWarning, "/no/clip.mp4: no such file")
	wantCheck(t, found["camera yard"], checkNone, "rtsp")
	wantCheck(t, found["mqtt"], checkWarning, "there is no broker to send commands by")
	if clock := found["clock"]; strings.Contains(clock.Found, "isn't synchronised") != (clock.State == checkWarning) {
		t.Errorf("%+v", clock)
	}
}

func TestTheDoctorHasASessionWithTheBroker(t *testing.T) {
	t.Parallel()
	broker := strictBroker(t)
	for password, want := range map[string]struct {
		state string
		found []string
	}{
		"right": {checkOK, []string{"mqtt://" + broker + " takes a session of sightd:here:doctor"}},
		"wrong": {checkWarning, []string{"refuses", "mqtt.password_file"}},
	} {
		file := write(t, filepath.Join(t.TempDir(), "password"), []byte(password+"\n"))
		config, _ := serviceConfig(t, "test:bars", "mqtt: {url: 'mqtt://"+broker+"', username: door, password_file: "+file+"}\n")
		wantCheck(t, doctorsChecks(t, config)["broker"], want.state, want.found...)
		if c, asked := doctorsChecks(t, config, "--offline")["broker"]; asked {
			t.Errorf("--offline: %+v", c)
		}
	}
}

func abs(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}
