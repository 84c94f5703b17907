package calibcache_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sightd/sightd/calibcache"
	"github.com/sightd/sightd/internal/testenv"
)

// writeWithORT has ONNX Runtime write the three files of a calibration.
const writeWithORT = `
import sys
import numpy as np
from onnxruntime.quantization.calibrate import TensorData
from onnxruntime.quantization.quant_utils import write_calibration_table
f = lambda v: np.array(v, dtype=np.float32)
write_calibration_table({
    "input": TensorData(lowest=f(-1), highest=f(2.64)),
    "conv: 1": TensorData(lowest=f(0), highest=f(254)),
    "/relu/Relu_output_0": TensorData(lowest=f(0), highest=f(1e-3)),
}, sys.argv[1])
`

// readWithORT has it read the flatbuffers file, as its TensorRT provider does.
const readWithORT = `
import json, sys
from onnxruntime.quantization.CalTableFlatBuffers.TrtTable import TrtTable
t = TrtTable.GetRootAs(open(sys.argv[1], "rb").read(), 0)
print(json.dumps([[t.Dict(i).Key().decode(), float(t.Dict(i).Value())] for i in range(t.DictLength())]))
`

func python(t *testing.T, script string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), testenv.Python(t), append([]string{"-c", script}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	return out
}

func TestONNXRuntimesFilesAreTaken(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	python(t, writeWithORT, dir)
	for file, form := range map[string]calibcache.Form{
		"calibration.cache":       calibcache.FormORTTable,
		"calibration.json":        calibcache.FormORTJSON,
		"calibration.flatbuffers": calibcache.FormFlatbuffers,
	} {
		b, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		if got := calibcache.Detect(b); got != form {
			t.Errorf("%s is taken for %s", file, got)
		}
		c, _, err := calibcache.Decode(b, form)
		if err != nil {
			t.Error(err)
			continue
		}
		scales := map[string]float32{}
		for _, e := range c.Entries {
			scales[e.Name] = e.Scale()
		}
		if len(scales) != 3 || scales["conv: 1"] != 2 || scales["input"] != float32(float64(float32(2.64))/127) ||
			scales["/relu/Relu_output_0"] != float32(float64(float32(1e-3))/127) {
			t.Errorf("%s: %v", file, scales)
		}
	}
}

func TestONNXRuntimeTakesOurFlatbuffers(t *testing.T) {
	t.Parallel()
	c, err := calibcache.Read(testenv.Demo("lite0", "calibration.cache"))
	if err != nil {
		t.Fatal(err)
	}
	b, _, err := c.Encode(calibcache.FormFlatbuffers)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "calibration.flatbuffers")
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	var read [][2]any
	if err := json.Unmarshal(python(t, readWithORT, path), &read); err != nil {
		t.Fatal(err)
	}
	if len(read) != len(c.Entries) {
		t.Fatalf("it reads %d tensors of %d", len(read), len(c.Entries))
	}
	for i, e := range c.Entries {
		if read[i][0] != e.Name || read[i][1] != e.Range() {
			t.Errorf("it reads %v, wrote %s %v", read[i], e.Name, e.Range())
		}
	}
}
