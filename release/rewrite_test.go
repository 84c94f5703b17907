package release

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const before = `# The door's model
name: door
release: 3       # grows
model: door.onnx

# made by sightd calibrate
calibration: old.cache   # for TensorRT
input:
  mean: [1, 2, 3]

keep_fp:
  - conv1   # first
  - 'x: y'

# whom it is for
for: {devices: ['a*']}
`

func TestCalibrateChangesTwoKeysAndNothingElse(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "model.yaml")
	if err := os.WriteFile(path, []byte(before), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := Calibrate(path, "new.cache", []string{"a/b", "it's"}); err != nil {
		t.Fatal(err)
	}
	want := `# The door's model
name: door
release: 3       # grows
model: door.onnx

# made by sightd calibrate
calibration: new.cache   # for TensorRT
input:
  mean: [1, 2, 3]

keep_fp: ['a/b', 'it''s']

# whom it is for
for: {devices: ['a*']}
`
	got, err := os.ReadFile(path)
	if diff := cmp.Diff(want, string(got)); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, error %v", info.Mode(), err)
	}
}

func TestCalibrateAddsKeysThatAreNotThere(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ old, want string }{
		"at the end":              {"name: a\nrelease: 1\nmodel: m\n", "name: a\nrelease: 1\nmodel: m\ncalibration: c.cache\nkeep_fp: ['l']\n"},
		"behind an unended line":  {"name: a\nrelease: 1\nmodel: m", "name: a\nrelease: 1\nmodel: m\ncalibration: c.cache\nkeep_fp: ['l']\n"},
		"a comment behind quotes": {"name: a\nrelease: 1\nmodel: m\ncalibration: 'x # y'  # it's kept\nkeep_fp: ['b'] # in May\n", "name: a\nrelease: 1\nmodel: m\ncalibration: c.cache  # it's kept\nkeep_fp: ['l'] # in May\n"},
		"Windows' line ends":      {"name: a\r\nrelease: 1\r\nmodel: m\r\ncalibration: x # y\r\nkeep_fp: [b]\r\n", "name: a\r\nrelease: 1\r\nmodel: m\r\ncalibration: c.cache # y\r\nkeep_fp: ['l']\r\n"},
		"an empty list is filled": {"name: a\nrelease: 1\nmodel: m\nkeep_fp: []\ncalibration: c.cache", "name: a\nrelease: 1\nmodel: m\nkeep_fp: ['l']\ncalibration: c.cache"},
	} {
		got, err := calibrate("model.yaml", []byte(test.old), "c.cache", []string{"l"})
		if diff := cmp.Diff(test.want, string(got)); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
}

func TestCalibrateSaysWhatToWriteWhereItCannot(t *testing.T) {
	t.Parallel()
	// On one line there is no line of its own for a key.
	_, err := calibrate("model.yaml", []byte("{name: a, release: 1, model: m, calibration: x}\n"), "c.cache", []string{"l"})
	if err == nil {
		t.Fatal("no error")
	}
	want := "model.yaml is written in a form that can't be changed safely; put these lines into it by hand:\ncalibration: c.cache\nkeep_fp: ['l']"
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Error(diff)
	}
}
