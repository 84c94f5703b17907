package hatest

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"os"
	"os/exec"
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
func Render(t testing.TB, all ...Template) []string {
	t.Helper()
	var out []string
	python(t, testenv.Python(t), render, all, &out)
	if len(out) != len(all) {
		t.Fatalf("%d of %d templates were rendered", len(out), len(all))
	}
	return out
}

// Validate has Home Assistant's own code look at messages by their topics, and gives
// the entities that it takes, as PLATFORM ID. It skips the test where there is no
// Python with the package homeassistant, of which 2026.11.0 wants Python 3.14: set
// SIGHTD_HOMEASSISTANT_PYTHON to one.
func Validate(t testing.TB, messages map[string]string) []string {
	t.Helper()
	interpreter := os.Getenv("SIGHTD_HOMEASSISTANT_PYTHON")
	if interpreter == "" {
		t.Skip("SIGHTD_HOMEASSISTANT_PYTHON names no Python that has Home Assistant: pip install homeassistant wants a newer Python than Debian's")
	}
	var out []string
	python(t, interpreter, validate, messages, &out)
	return out
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
