package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What a start would refuse is found before, at its place in the file.
func TestCheckedConfigurations(t *testing.T) {
	t.Parallel()
	const good = "models: [{name: tiny, release: .}]\n"
	for name, test := range map[string]struct {
		text           string
		faults, warned []string // their beginnings behind FILE:
		environ        []string
	}{
		"good":           {text: good},
		"empty":          {text: "", faults: []string{" models: the configuration has no model"}},
		"a lost release": {text: "models:\n  - {name: tiny, release: nothere}\n", faults: []string{"2:27: models[0].release: stat "}},
		"lost files": {
			text: good + "mqtt:\n  url: mqtts://broker\n  username: u\n  password_file: /no/password\n  ca_file: ca.pem\n",
			faults: []string{
				"5:18: mqtt.password_file: open /no/password: no such file",
				"6:12: mqtt.ca_file: open DIR/ca.pem: no such file or directory; where it is a credential",
			},
		},
		"lost credentials": {
			text:    good + "mqtt: {url: mqtts://broker, ca_file: ca.pem}\n",
			environ: []string{"CREDENTIALS_DIRECTORY=/no"},
			faults:  []string{"2:38: mqtt.ca_file: open DIR/ca.pem: no such file or directory\n"},
		},
		"the embedded broker has no certificates": {
			text:   good + "mqtt: {embedded: \"127.0.0.1:0\", ca_file: ca.pem}\n",
			faults: []string{"2:42: mqtt.ca_file: it needs an encrypted connection"},
		},
		"two brokers": {
			text:   good + "mqtt: {url: mqtt://broker, embedded: \"127.0.0.1:1883\"}\n",
			warned: []string{"mqtt.embedded: a broker listens at 127.0.0.1:1883 without a login"},
		},
		"no broker": {
			text:   good + "mqtt: {commands: [snapshot], home_assistant: true}\n",
			warned: []string{"mqtt.home_assistant: there is no broker", "mqtt.commands: there is no broker"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := filepath.Join(dir, "sightd.yaml")
			if err := os.WriteFile(file, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			warnings, err := CheckConfig(file, test.environ)
			text := ""
			if err != nil {
				text = err.Error() + "\n"
			}
			if strings.Count(text, file+":") != len(test.faults) {
				t.Errorf("faults:\n%swanted %d", text, len(test.faults))
			}
			for _, want := range test.faults {
				if want = file + ":" + strings.ReplaceAll(want, "DIR", dir); !strings.Contains(text, want) {
					t.Errorf("faults:\n%swanted %s", text, want)
				}
			}
			if len(warnings) != len(test.warned) {
				t.Fatalf("warnings %q, wanted %q", warnings, test.warned)
			}
			for i, want := range test.warned {
				if !strings.HasPrefix(warnings[i], want) {
					t.Errorf("warning %q, wanted %q", warnings[i], want)
				}
			}
		})
	}
}
