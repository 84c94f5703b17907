package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sightd/sightd/camera"
	"github.com/sightd/sightd/daemon"
	"github.com/sightd/sightd/internal/sharedlib"
	"github.com/sightd/sightd/ort"
	"github.com/sightd/sightd/trt"
)

type doctorCmd struct {
	Config  string `short:"c" type:"path" placeholder:"FILE" help:"A configuration: its state directory, back end, releases, cameras and brokers are looked at too."`
	Offline bool   `help:"Have no session with the brokers of the configuration."`
	Backend string `enum:"auto,tensorrt,ort" default:"auto" help:"What is needed: with tensorrt its absence is a fault; the configuration's otherwise."`
	JSON    bool   `name:"json" help:"One JSON document."`
}

// check is a line of the doctor's.
type check struct {
	Name   string `json:"name"`
	State  string `json:"state"` // ok, warning, missing or not-applicable
	Found  string `json:"found"`
	Remedy string `json:"remedy"` // "" where nothing is to be done
}

const (
	checkOK      = "ok"
	checkWarning = "warning"
	checkMissing = "missing"
	checkNone    = "not-applicable"
)

// doctor gathers checks.
type doctor struct {
	ctx     context.Context
	backend string // that is wanted
	checks  []check
}

func (d *doctor) add(name, state, found, remedy string) {
	if state == checkOK || state == checkNone {
		remedy = ""
	}
	d.checks = append(d.checks, check{name, state, found, remedy})
}

func (c *doctorCmd) Run(a *app) error {
	d := &doctor{ctx: a.ctx, backend: c.Backend}
	d.add("sightd", checkOK, fmt.Sprintf("%s (%s)", version, commit), "")
	var cfg *daemon.Config
	if c.Config != "" {
		var err error
		if cfg, err = daemon.LoadConfig(c.Config, os.Environ()); err != nil {
			d.add("configuration", checkMissing, err.Error(), "correct it: `sightd config check -c "+c.Config+"`")
		} else {
			d.add("configuration", checkOK, c.Config, "")
			if c.Backend == "auto" {
				d.backend = cfg.Inference.Backend
			}
		}
	}
	d.worker()
	d.onnxRuntime()
	d.tensorRT(cfg)
	d.jetson()
	d.machine(cfg)
	d.models(cfg)
	d.cameras(cfg)
	d.mqtt(cfg, c.Offline)
	if a.ctx.Err() != nil {
		return a.ctx.Err()
	}
	status := error(nil)
	for _, k := range d.checks {
		if k.State == checkMissing {
			status = exitStatus(1)
		}
	}
	if c.JSON {
		if err := writeJSON(a.stdout, map[string]any{"checks": d.checks}); err != nil {
			return err
		}
		return status
	}
	t := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	for _, k := range d.checks {
		fmt.Fprintf(t, "%s\t%s\t%s\n", k.State, k.Name, strings.ReplaceAll(k.Found, "\n", " "))
		if k.Remedy != "" {
			fmt.Fprintf(t, "\t\t→ %s\n", k.Remedy)
		}
	}
	return cmp.Or(t.Flush(), status)
}

// worker starts the camera worker, which shows that its OpenCV loads.
func (d *doctor) worker() {
	path, err := camera.FindWorker("")
	if err != nil {
		d.add("camera worker", checkMissing, err.Error(), "install sightd's package, or put sightd-camera beside sightd")
		return
	}
	ctx, cancel := context.WithTimeout(d.ctx, 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		d.add("camera worker", checkMissing, strings.TrimSpace(fmt.Sprintf("%s: %v: %s", path, err, text)),
			"install OpenCV's libraries: apt install libopencv-videoio-dev, or what the message names")
		return
	}
	d.add("camera worker", checkOK, text, "")
}

func (d *doctor) onnxRuntime() {
	err := ort.Open("")
	switch {
	case err == nil:
		d.add("onnx runtime", checkOK, fmt.Sprintf("%s, %s", ort.Version(), ort.Features()), "")
	case d.backend == "tensorrt":
		d.add("onnx runtime", checkWarning, err.Error(), "nothing runs on the CPU while an engine is built, and calibrating needs it: install sightd's package, or set SIGHTD_ONNXRUNTIME")
	default:
		d.add("onnx runtime", checkMissing, err.Error(), "install sightd's package, or set SIGHTD_ONNXRUNTIME to the path of libonnxruntime.so")
	}
}

// tensorRT looks at what builds and runs engines on a GPU.
func (d *doctor) tensorRT(cfg *daemon.Config) {
	engines := ""
	if cfg != nil {
		engines = filepath.Join(cfg.StateDir, "engines")
		if info, err := os.Stat(engines); err != nil || !info.IsDir() {
			engines = "" // a daemon makes it
		}
	}
	info, err := daemon.FindTensorRT(d.ctx, engines)
	if err == nil {
		d.tensorRTFound(info)
		g := info.Device
		d.add("gpu", checkOK, fmt.Sprintf("%s, compute capability %d.%d, %d MiB (%d free), driver for CUDA up to %s",
			g.Name, g.Major, g.Minor, g.Memory>>20, g.Free>>20, info.CUDA), "")
		if g.DLACores > 0 {
			d.add("dla", checkOK, fmt.Sprintf("%d cores, as TensorRT counts them", g.DLACores), "")
		} else {
			d.add("dla", checkNone, "TensorRT counts no DLA core here", "")
		}
		return
	}
	text := daemon.Unopened(err.Error())
	remedy := "use back end ort, or mend what the message names"
	state := checkWarning // there, and it doesn't work
	var none *daemon.NotInstalled
	switch {
	case d.backend == "tensorrt":
		state = checkMissing
	case errors.As(err, &none) || d.backend == "ort":
		state = checkNone
	}
	if errors.As(err, &none) {
		remedy = "install TensorRT, e.g. `apt install nvidia-jetpack` on a Jetson, or use back end auto or ort"
	}
	if trt.StatusOf(err) == trt.NoDevice && info.TensorRT > 0 {
		d.tensorRTFound(info)
		d.add("gpu", state, text, "load NVIDIA's driver, and let sightd use its devices (groups video and render, a container's --gpus)")
		return
	}
	d.add("tensorrt", state, text, remedy)
	d.driver(state)
}

func (d *doctor) tensorRTFound(info trt.Info) {
	d.add("tensorrt", checkOK, fmt.Sprintf("%s by %s, which was made with %s", info.TensorRT, info.Library, info.Compiled), "")
	d.parser(info)
}

// driver says of a GPU what the kernel tells.
func (d *doctor) driver(state string) {
	if b, err := os.ReadFile("/proc/driver/nvidia/version"); err == nil {
		line, _, _ := strings.Cut(string(b), "\n")
		d.add("gpu", checkOK, line, "")
		return
	}
	if state == checkMissing {
		d.add("gpu", checkMissing, "NVIDIA's driver isn't loaded", "install and load it")
		return
	}
	d.add("gpu", checkNone, "NVIDIA's driver isn't loaded", "")
}

// parser looks for TensorRT's ONNX parser, which only building opens.
func (d *doctor) parser(info trt.Info) {
	const title = "onnx parser"
	major := info.TensorRT.Major()
	name := fmt.Sprintf("libnvonnxparser.so.%d", major)
	if b, err := os.ReadFile(info.Library); err == nil && !bytes.Contains(b, []byte("libnvonnxparser.so")) {
		d.add(title, checkNone, info.Library+" opens none", "") // a double of it
		return
	}
	remedy := fmt.Sprintf("install it: apt install libnvonnxparsers%d", major)
	for _, dir := range sharedlib.LoaderFolders() {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err != nil {
			continue
		}
		if err := sharedlib.Check(path, nil); err != nil {
			d.add(title, checkMissing, fmt.Sprintf("%s: %v", path, err), remedy)
			return
		}
		d.add(title, checkOK, path, "")
		return
	}
	if b, err := os.ReadFile("/etc/ld.so.cache"); err == nil && strings.Contains(string(b), name) {
		d.add(title, checkOK, name, "")
		return
	}
	d.add(title, checkMissing, "no "+name+", without which no engine is built", remedy)
}
