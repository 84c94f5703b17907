package release

import (
	"errors"
	"math"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// MaxNumber is the highest release number.
const MaxNumber = math.MaxInt32

// The first character keeps . and .. out: names become directories.
var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// CheckName tells what is wrong with a model's name.
func CheckName(name string) error {
	if !nameForm.MatchString(name) {
		return errors.New("1 to 64 of a-z 0-9 . _ -, starting with a letter or digit")
	}
	return nil
}

// faults takes what is wrong with a field; *strict.Document is one.
type faults interface {
	Errorf(path, format string, args ...any)
	Has(path string) bool
}

func (s *Spec) validate(f faults) {
	for _, need := range []struct{ path, what string }{
		{"name", "the model's name, such as name: squeezenet"},
		{"release", "the release's number, such as release: 1"},
		{"model", "the ONNX file, such as model: model.onnx"},
	} {
		if !f.Has(need.path) {
			f.Errorf(need.path, "missing: %s", need.what)
		}
	}
	if f.Has("name") && CheckName(s.Name) != nil {
		f.Errorf("name", "found %q, wanted %v", s.Name, CheckName(s.Name))
	}
	if f.Has("release") {
		between(f, "release", s.Release, 1, MaxNumber)
	}
	for _, file := range []struct{ path, value string }{
		{"model", s.Model}, {"calibration", s.Calibration}, {"labels", s.Labels}, {"golden", s.Golden},
	} {
		if f.Has(file.path) && strings.TrimSpace(file.value) == "" {
			f.Errorf(file.path, "found nothing, wanted a path")
		}
	}
	oneOf(f, "precision", s.Precision, "int8", "fp16", "fp32")
	s.Input.validate(f)
	oneOf(f, "output.softmax", s.Output.Softmax, "auto", "true", "false")
	between(f, "output.first", s.Output.First, 0, MaxNumber)
	between(f, "output.top", s.Output.Top, 1, 1000)
	share(f, "coverage", s.Coverage)
	s.Placement.Validate(f, "placement")
	share(f, "proof.golden", s.Proof.Golden)
	share(f, "proof.agreement", s.Proof.Agreement)
	patterns(f, "for.devices", s.For.Devices)
	patterns(f, "for.modules", s.For.Modules)
}

func (s *Spec) validateCalibration(f faults) {
	if s.Precision == "int8" && s.Calibration == "" {
		f.Errorf("calibration", "missing: precision int8 needs a calibration cache; make one with `sightd calibrate`, or choose precision: fp16 or fp32")
	}
}

func (in *Input) validate(f faults) {
	oneOf(f, "input.color", in.Color, "rgb", "bgr", "gray")
	oneOf(f, "input.resize", in.Resize, "letterbox", "crop", "stretch")
	oneOf(f, "input.filter", in.Filter, "nearest", "linear", "cubic", "area")
	if !(in.Crop > 0 && in.Crop <= 1) {
		f.Errorf("input.crop", "found %v, wanted a share above 0, at most 1", in.Crop)
	}
	between(f, "input.pad", in.Pad, 0, 255)
	for _, l := range []struct {
		path   string
		values []float32
	}{{"input.mean", in.Mean}, {"input.std", in.Std}} {
		switch n := len(l.values); {
		case in.Color == "gray" && n != 1:
			f.Errorf(l.path, "found %d values, wanted 1 for color gray", n)
		case n != 1 && n != 3:
			f.Errorf(l.path, "found %d values, wanted 1 or 3", n)
		}
	}
	for i, v := range in.Std {
		if v == 0 {
			f.Errorf("input.std["+strconv.Itoa(i)+"]", "found 0, wanted a number to divide by")
		}
	}
}

// Validate reports what is wrong with a placement that stands at path.
func (p *Placement) Validate(f faults, path string) {
	oneOf(f, path+".device", p.Device, "auto", "gpu", "dla")
	if n, err := strconv.Atoi(p.Cores); p.Cores != "auto" && (err != nil || n < 1 || n > 16) {
		f.Errorf(path+".cores", "found %q, wanted auto or a number of DLA cores", p.Cores)
	}
	between(f, path+".max_pieces", p.MaxPieces, 0, MaxNumber)
	share(f, path+".max_gpu_share", p.MaxGPUShare)
}

func oneOf(f faults, path, found string, allowed ...string) {
	if !slices.Contains(allowed, found) {
		f.Errorf(path, "found %q, wanted %s", found, strings.Join(allowed, ", "))
	}
}

func between(f faults, path string, found, least, most int) {
	if found < least || found > most {
		f.Errorf(path, "found %d, wanted %d to %d", found, least, most)
	}
}

func share(f faults, path string, found float64) {
	if !(found >= 0 && found <= 1) {
		f.Errorf(path, "found %v, wanted a share from 0 to 1", found)
	}
}

func patterns(f faults, at string, all []string) {
	if len(all) == 0 {
		f.Errorf(at, "found an empty list, which is nobody; wanted ['*'] for everybody")
	}
	for i, p := range all {
		if _, err := path.Match(p, ""); err != nil || p == "" {
			f.Errorf(at+"["+strconv.Itoa(i)+"]", "found %q, wanted a pattern with * and ?", p)
		}
	}
}
