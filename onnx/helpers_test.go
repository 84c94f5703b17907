package onnx

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sightd/sightd/internal/testenv"
)

// python runs a script of testdata and decodes the JSON that it prints.
func python(t *testing.T, result any, script string, args ...string) {
	t.Helper()
	cmd := exec.Command(testenv.Python(t), append([]string{filepath.Join("testdata", script)}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, stderr.Bytes())
	}
	if err := json.Unmarshal(out, result); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// materialModels are the paths of the measuring material's models, if any.
func materialModels() []string {
	paths, _ := filepath.Glob(filepath.Join(testenv.Root(), "..", "shared", "material", "models", "*.onnx"))
	return paths
}

// demoModel is the path of the demo's model.
func demoModel() string { return testenv.Demo("lite0", "model.onnx") }

// write stores m in a file of the test's own.
func write(t *testing.T, m *Model) string {
	t.Helper()
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "model.onnx")
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
