// Package dla says where a model's layers run on a machine with DLA cores: what a
// placement asks for and this machine can do ([Resolve]), and what TensorRT made of
// it ([Inspect]). It knows rules and reads reports; it touches no hardware. How many
// cores there are is what TensorRT counts, never what a module's name suggests.
package dla

import (
	"errors"
	"fmt"
	"strconv"
)

// Wish is a release's placement, or the one that the configuration has instead.
type Wish struct {
	Device      string // auto, gpu or dla
	Cores       string // auto, or how many DLA cores
	Fallback    bool   // what DLA can't run may go to the GPU, one layer or all
	MaxPieces   int    // of an engine on DLA; 0: any
	MaxGPUShare float64
}

// Machine is what the engine is to run on.
type Machine struct {
	Cores    int // DLA cores, as TensorRT counts them
	TensorRT int // its version, major × 10000 + minor × 100 + patch
}

// Numbers are how the engine is to compute.
type Numbers struct {
	Precision  string // int8, fp16 or fp32
	Explicit   bool   // INT8 by Q/DQ nodes, not by a calibration table
	Calibrator string // the table's algorithm, as its header has it; "" without a table
}

// Choice is where an engine is to run.
type Choice struct {
	Cores    []int // DLA cores, one lane each; nil: the GPU
	Fallback bool  // with Cores: layers that DLA can't run go to the GPU
	Reason   string
}

// DLA says whether the engine is for DLA.
func (c Choice) DLA() bool { return len(c.Cores) > 0 }

// The versions of TensorRT between which DLA is missing, and that in which it came
// back for strongly typed networks alone.
const (
	lastDLA  = 10_07_99
	againDLA = 11_04_01
)

// entropy2 is the only calibrator whose table TensorRT takes for DLA.
const entropy2 = "EntropyCalibration2"

// Resolve decides between the GPU and DLA cores. Where DLA is wished for and this
// machine or its TensorRT has none, fallback makes it the GPU, and the reason says
// so; without, it is an error. A release or a wish that can't run on the DLA that is
// there is an error either way, since somebody has to mend it.
func Resolve(w Wish, m Machine, n Numbers) (Choice, error) {
	switch w.Device {
	case "gpu":
		return Choice{Reason: "the placement asks for the GPU"}, nil
	case "auto":
		return Choice{Reason: "placement.device: auto is the GPU, as what DLA would gain isn't forecast yet"}, nil
	case "dla":
	default:
		return Choice{}, fmt.Errorf("placement.device: found %q, wanted auto, gpu or dla", w.Device)
	}
	if why := absent(m); why != "" {
		if !w.Fallback {
			return Choice{}, fmt.Errorf("placement.device: dla without fallback: %s; take device: auto or gpu, or fallback: true", why)
		}
		return Choice{Reason: "the GPU instead of DLA: " + why}, nil
	}
	cores, err := coresOf(w.Cores, m.Cores)
	if err != nil {
		return Choice{}, err
	}
	if err := n.check(m.TensorRT); err != nil {
		return Choice{}, err
	}
	c := Choice{Fallback: w.Fallback}
	for i := range cores {
		c.Cores = append(c.Cores, i)
	}
	c.Reason = fmt.Sprintf("the placement asks for DLA: %s of %d", plural(cores, "core"), m.Cores)
	if w.Fallback {
		c.Reason += ", the GPU for layers that DLA can't run"
	}
	return c, nil
}

// absent says why there is no DLA, "" where there is.
func absent(m Machine) string {
	switch v := m.TensorRT; {
	case v > lastDLA && v < againDLA:
		return fmt.Sprintf("TensorRT %s has no DLA, which 10.8 to 11.3 left out", version(v))
	case m.Cores < 1:
		return "this machine has no DLA core: TensorRT counts 0"
	}
	return ""
}

func coresOf(wish string, there int) (int, error) {
	if wish == "auto" || wish == "" {
		return there, nil
	}
	n, err := strconv.Atoi(wish)
	switch {
	case err != nil || n < 1:
		return 0, fmt.Errorf("placement.cores: found %q, wanted auto or a number of DLA cores", wish)
	case n > there:
		return 0, fmt.Errorf("placement.cores: %d, but TensorRT counts %s here; take cores: auto, or at most %d",
			n, plural(there, "DLA core"), there)
	}
	return n, nil
}

// check says why DLA can't compute so.
func (n Numbers) check(tensorRT int) error {
	const dla = "placement.device: dla: "
	strongly := tensorRT >= againDLA
	switch {
	case n.Precision == "fp32":
		return errors.New(dla + "DLA computes in INT8 and FP16 alone; take precision int8 or fp16, or device: gpu")
	case n.Precision != "int8":
		return nil
	case n.Explicit && !strongly:
		return fmt.Errorf(dla+"TensorRT %s runs no Q/DQ nodes on DLA; take --quantization implicit, or device: gpu", version(tensorRT))
	case n.Explicit:
		return nil
	case strongly:
		return fmt.Errorf(dla+"TensorRT %s reads no calibration cache; take --quantization explicit, or device: gpu", version(tensorRT))
	case n.Calibrator == "":
		return errors.New(dla + "INT8 needs a calibration cache, and there is none: make one with `sightd calibrate --algorithm entropy`")
	case n.Calibrator != entropy2:
		return fmt.Errorf(dla+"DLA takes a calibration cache of %s alone, and this one's header says %s: calibrate anew with "+
			"`sightd calibrate --algorithm entropy`, or keep its scales under the other header with `sightd cache convert FILE --algorithm %s`",
			entropy2, n.Calibrator, entropy2)
	}
	return nil
}

// version writes a version as people do.
func version(v int) string { return fmt.Sprintf("%d.%d.%d", v/10000, v/100%100, v%100) }

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
