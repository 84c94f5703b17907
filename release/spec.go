package release

import (
	"fmt"
	"path/filepath"

	"github.com/sightd/sightd/internal/strict"
)

// maxSpec bounds model.yaml, in bytes.
const maxSpec = 64 << 10

// Spec is what a release says of its model: the content of a model.yaml, and of
// a manifest.json with the files' hashes besides. Paths are as they are written
// there, relative to the file.
type Spec struct {
	Name        string    `json:"name"`
	Release     int       `json:"release"` // 1 to 2³¹−1, grows
	Model       string    `json:"model"`
	Calibration string    `json:"calibration,omitempty"` // empty: none
	Labels      string    `json:"labels,omitempty"`      // empty: the classes' numbers
	Precision   string    `json:"precision"`             // int8, fp16 or fp32
	Input       Input     `json:"input"`
	Output      Output    `json:"output"`
	Coverage    float64   `json:"coverage"` // least share of the needed activations that the cache names
	KeepFP      []string  `json:"keep_fp"`  // layers that stay in floating point
	Placement   Placement `json:"placement"`
	Proof       Proof     `json:"proof"`
	For         For       `json:"for"`
	Golden      string    `json:"golden,omitempty"` // a directory; empty: none

	AllowDowngrade bool `json:"allow_downgrade,omitempty"` // it may be installed although a higher number was proven
}

// Input is how a picture becomes the model's input: value = (pixel − mean) ÷ std.
type Input struct {
	Color  string    `json:"color"`  // rgb, bgr or gray
	Resize string    `json:"resize"` // letterbox, crop or stretch
	Filter string    `json:"filter"` // nearest, linear, cubic or area
	Crop   float64   `json:"crop"`   // with resize crop, the share of the short side that is kept
	Pad    int       `json:"pad"`    // with letterbox, the grey around, 0 to 255
	Mean   []float32 `json:"mean"`   // one for all channels, or one for each, in the order of Color
	Std    []float32 `json:"std"`
}

// Output is how the model's output becomes labels.
type Output struct {
	Softmax string `json:"softmax"` // auto, true or false
	First   int    `json:"first"`   // index of the first label
	Top     int    `json:"top"`     // labels reported
}

// Placement is where the layers may run.
type Placement struct {
	Device      string  `json:"device"` // auto, gpu or dla
	Cores       string  `json:"cores"`  // auto, or how many DLA cores
	Fallback    bool    `json:"fallback"`
	MaxPieces   int     `json:"max_pieces"` // 0: any
	MaxGPUShare float64 `json:"max_gpu_share"`
}

// Proof is what a release has to reach before it serves.
type Proof struct {
	Golden    float64 `json:"golden"`    // share of the golden images to get right
	Agreement float64 `json:"agreement"` // share of answers as the release before gives them; 0: not asked
}

// For is whom a release is for, as patterns with * and ?.
type For struct {
	Devices []string `json:"devices"`
	Modules []string `json:"modules"`
}

// DefaultSpec holds the value of every field that a specification may leave out.
func DefaultSpec() Spec {
	return Spec{
		Precision: "int8",
		Input: Input{
			Color: "rgb", Resize: "letterbox", Filter: "linear", Crop: 0.875, Pad: 127,
			Mean: []float32{0}, Std: []float32{1},
		},
		Output:    Output{Softmax: "auto", Top: 5},
		Coverage:  1,
		KeepFP:    []string{},
		Placement: Placement{Device: "auto", Cores: "auto", Fallback: true, MaxGPUShare: 1},
		Proof:     Proof{Golden: 0.95},
		For:       For{Devices: []string{"*"}, Modules: []string{"*"}},
	}
}

// ReadSpec reads a model.yaml. Its error lists every fault with line and column.
func ReadSpec(path string) (*Spec, error) { return readSpec(path, false) }

func readSpec(path string, uncalibrated bool) (*Spec, error) {
	data, err := strict.ReadFile(path, maxSpec)
	if err != nil {
		return nil, fmt.Errorf("read the specification: %w", err)
	}
	return parseSpec(path, data, uncalibrated)
}

// ParseSpec reads the content of a model.yaml; the name stands in errors.
func ParseSpec(name string, data []byte) (*Spec, error) { return parseSpec(name, data, false) }

func parseSpec(name string, data []byte, uncalibrated bool) (*Spec, error) {
	doc, err := strict.YAML(name, data, maxSpec)
	if err != nil {
		return nil, err
	}
	s := DefaultSpec()
	doc.Decode(&s)
	s.validate(doc)
	if !uncalibrated {
		s.validateCalibration(doc)
	}
	if err := doc.Err(); err != nil {
		return nil, err
	}
	return &s, nil
}

// resolve is the place of a file that the specification in dir names.
func resolve(dir, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}
