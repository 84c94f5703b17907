package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every command that reads the configuration says the same, and nothing is
// made.
func TestConfigurationsThatAreRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		more string // from line 4 on
		want []string
	}{
		"an unknown key": {
			"mqtt:\n  urll: mqtt://broker\n",
			[]string{`:5:3: mqtt: unknown key "urll": did you mean "url"?`},
		},
		"a wrong type": {
			"events:\n  min_score: high\n",
			[]string{`:5:14: events.min_score: found "high", wanted a number`},
		},
		"a duplicate camera": {
			"cameras:\n  - {name: door, source: 'test:bars'}\n  - {name: door, source: 'test:noise'}\n",
			[]string{`:6:12: cameras[1].name: "door" is the name of cameras[0] already`},
		},
		"a source that there isn't": {
			"cameras: [{name: door, source: /dev/video0}]\n",
			[]string{`:4:32: cameras[0].source: "/dev/video0" has no kind: write file:PATH`},
		},
		"two faults": {
			"colour: blue\nevents: {mode: often}\n",
			[]string{`:4:1: unknown key "colour"`, `:5:16: events.mode: found "often", wanted change, every`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config, _ := configured(t, test.more)
			unchanged(t, filepath.Dir(config))
			for _, args := range [][]string{
				{"run"}, {"config", "check"}, {"config", "show"}, {"release", "status"}, {"release", "install", tiny},
			} {
				o := command(t, append(args, "-c", config)...)
				if o.status != 1 || o.stdout != "" || !strings.HasPrefix(o.stderr, "sightd: "+config+":") {
					t.Errorf("%q: exit status %d: %s%s", args, o.status, o.stdout, o.stderr)
				}
				for _, want := range test.want {
					if strings.Count(o.stderr, config+want) != 1 {
						t.Errorf("%q says:\n%swanted once %s", args, o.stderr, want)
					}
				}
			}
		})
	}
}

func TestConfigurationThatIsNotThere(t *testing.T) {
	t.Parallel()
	config := filepath.Join(t.TempDir(), "sightd.yaml")
	unchanged(t, filepath.Dir(config))
	for _, args := range [][]string{{"run"}, {"config", "check"}, {"release", "status"}} {
		wantRefusal(t, command(t, append(args, "-c", config)...), 1, config, "no such file")
	}
}

// What a daemon would find at its start is found without one too; the release may
// still come.
func TestCheckLooksAtWhatIsNamed(t *testing.T) {
	t.Parallel()
	config, _ := configured(t, "models: [{name: tiny, release: nothere}]\nmqtt: {url: mqtt://broker, embedded: '127.0.0.1:0'}\n")
	unchanged(t, filepath.Dir(config))
	o := command(t, "config", "check", "-c", config)
	if o.status != 1 || o.stdout != "" {
		t.Errorf("exit status %d: %s%s", o.status, o.stdout, o.stderr)
	}
	wantParts(t, o.stderr, config+":4:32: models[0].release: stat ", "warning: "+config+": mqtt.embedded: a broker listens at")
	if o := command(t, "config", "show", "-c", config); o.status != 0 {
		t.Errorf("it isn't shown: %s", o.stderr)
	}
}

func TestPortsInUseAreRefused(t *testing.T) {
	t.Parallel()
	taken := listener(t).Addr().String()
	for key, want := range map[string]string{
		"http: {listen: %q}":                                    "choose another address",
		"mqtt: {embedded: %q}\nhttp: {listen: \"\"}":            "name another port",
		"mqtt: {embedded: \"127.0.0.1:0\"}\nhttp: {listen: %q}": "choose another address",
	} {
		config, state := serviceConfig(t, "test:bars", fmt.Sprintf(key, taken)+"\n")
		prepare(t, state)
		unchanged(t, filepath.Dir(config))
		wantRefusal(t, command(t, "run", "-c", config), 1, taken, "in use", want)
	}
}

// A socket's path is short, whatever the folder's is.
func TestControlSocketThatCannotBe(t *testing.T) {
	t.Parallel()
	config, state := serviceConfig(t, "test:bars", "")
	prepare(t, state)
	b, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("long-", 30)
	write(t, config, []byte(strings.Replace(string(b), "control.sock", long, 1)))
	wantRefusal(t, command(t, "run", "-c", config), 1, "control_socket", long)
}
