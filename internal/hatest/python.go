package hatest

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"testing"

	"github.com/sightd/sightd/internal/testenv"
)

//go:embed render.py
var render string

//go:embed validate.py
var validate string

// A Template is rendered with the payload of its topic.
type Template struct {
	Template string `json:"template"`
	Payload  string `json:"payload"`
}

// Render gives what Jinja makes of each, as Home Assistant uses it; a template that
// uses what isn't there fails the test, where Home Assistant would log a warning.
// Where there is Home Assistant itself (see Validate), that has to make the same of
// them.
func Render(t testing.TB, all ...Template) []string {
	t.Helper()
	var out []string
	python(t, testenv.Python(t), render, all, &out)
	if len(out) != len(all) {
		t.Fatalf("%d of %d templates were rendered", len(out), len(all))
	}
	if os.Getenv(itself) != "" {
		if _, own := homeAssistant(t, nil, all); !slices.Equal(out, own) {
			t.Errorf("Home Assistant makes %q of the templates, Jinja %q", own, out)
		}
	}
	return out
}

// itself names a Python that has Home Assistant.
const itself = "SIGHTD_HOMEASSISTANT_PYTHON"

// Validate has Home Assistant's own code look at messages by their topics, and gives
// the entities that it takes, as PLATFORM ID. It skips the test where there is no
// Python with the package homeassistant, of which 2026.11.0 wants Python 3.14: set
// SIGHTD_HOMEASSISTANT_PYTHON to one.
func Validate(t testing.TB, messages map[string]string) []string {
	t.Helper()
	if os.Getenv(itself) == "" {
		t.Skip(itself + " names no Python that has Home Assistant: one with device discovery wants a newer Python than Debian has")
	}
	taken, _ := homeAssistant(t, messages, nil)
	return taken
}

func homeAssistant(t testing.TB, messages map[string]string, templates []Template) (taken, rendered []string) {
	t.Helper()
	in := struct {
		Messages  map[string]string `json:"messages"`
		Templates []Template        `json:"templates"`
	}{messages, templates}
	if messages == nil {
		in.Messages = map[string]string{}
	}
	if templates == nil {
		in.Templates = []Template{}
	}
	var out struct{ Taken, Rendered []string }
	python(t, os.Getenv(itself), validate, in, &out)
	return out.Taken, out.Rendered
}

func python(t testing.TB, interpreter, script string, in, out any) {
	t.Helper()
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(interpreter, "-c", script)
	cmd.Stdin = bytes.NewReader(b)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	b, err = cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	if err := json.Unmarshal(b, out); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
}
