package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sightd/sightd/daemon"
	"github.com/sightd/sightd/trt/double"
)

// The double stands in for TensorRT here; package trt holds it to the suite that the
// real library passes.

// onDouble starts a daemon with the double, which the script's lines rule.
func onDouble(t *testing.T, config string, lines ...string) *service {
	t.Helper()
	script := double.Script(t, append([]string{"image 8 8", "classes 3"}, lines...)...)
	return startServiceIn(t, []string{"SIGHTD_TENSORRT=" + double.Library(t), "SIGHTD_TRT_DOUBLE=" + script}, config)
}

func byTensorRT(s *daemon.Status) bool {
	m := s.Models[0]
	return m.Engine != nil && m.Engine.Backend == "tensorrt" && !m.Interim && m.Frames > 0
}

func byTheCPU(s *daemon.Status) bool {
	m := s.Models[0]
	return m.Engine != nil && m.Engine.Backend == "ort" && m.Interim && m.Frames > 0
}

func TestFirstBootIsServedByTheCPUUntilTheEngineIsBuilt(t *testing.T) {
	t.Parallel()
	config, state := serviceConfig(t, "test:noise", "")
	s := onDouble(t, config, "delay build 2s phase tactics")
	interim := s.when("the CPU serves while the engine is built", func(s *daemon.Status) bool {
		return byTheCPU(s) && s.Models[0].Build != nil && s.Models[0].Build.Phase == "tactics"
	})
	if !interim.Ready {
		t.Errorf("with the CPU it isn't ready: %q", interim.Reasons)
	}
	wantParts(t, command(t, "release", "status", "-c", config).stdout, "building, ", " (tactics)")
	after := s.when("TensorRT's engine serves", byTensorRT)
	if m := after.Models[0]; m.Engine.Device != "gpu" || m.Engine.Stored || m.Errors > 0 || m.Builds["ok"] < 1 {
		t.Errorf("after the hand-over: %+v, engine %+v", m, m.Engine)
	}
	if status := s.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d", status)
	}

	again := onDouble(t, config, "fail build 11 \"nothing is to be built\"")
	if m := again.when("the stored engine serves", byTensorRT).Models[0]; !m.Engine.Stored {
		t.Errorf("the second start built again: %+v", m.Engine)
	}
	again.stop(syscall.SIGTERM)

	// A flipped bit is found before TensorRT sees it.
	engines, err := filepath.Glob(filepath.Join(state, "engines", "*.engine"))
	if err != nil || len(engines) == 0 {
		t.Fatal(err, engines)
	}
	for _, path := range engines {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 1
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	third := onDouble(t, config)
	if m := third.when("a damaged engine is built again", byTensorRT).Models[0]; m.Engine.Stored || m.Damaged < 1 {
		t.Errorf("after a bit was flipped: %d damaged, %+v", m.Damaged, m.Engine)
	}
}

func TestDaemonLoadsWhatWasBuiltByItsConfiguration(t *testing.T) {
	t.Parallel()
	config, state := serviceConfig(t, "test:noise", "inference: {workspace: 512MiB, tactic_memory: 64MiB, optimisation: 2, quantization: explicit}\n")
	d := playing(t, "image 8 8")
	b := d.build("-c", config)
	if b.Quantization != "explicit" || filepath.Dir(b.Engine) != filepath.Join(state, "engines") {
		t.Errorf("built %+v", b)
	}
	flags := []string{"--workspace", "512MiB", "--tactic-memory", "64MiB", "--optimization-level", "2", "--quantization", "explicit"}
	if same := d.build(flags...); same.Key != b.Key {
		t.Errorf("with the same settings as flags it is another engine: %+v", same)
	}
	if other := d.build(append(flags, "--tactic-memory", "65MiB")...); other.Key == b.Key {
		t.Error("the memory for tactics is no part of the key")
	}
	s := onDouble(t, config, "fail build 11 \"nothing is to be built\"")
	if m := s.when("the stored engine serves", byTensorRT).Models[0]; !m.Engine.Stored || m.Engine.ID != b.Key {
		t.Errorf("it serves %+v", m.Engine)
	}
	elsewhere, _ := configured(t, "models: []\n")
	wantRefusal(t, d.sightd("build", tiny, "-c", elsewhere), 1, "the configuration has no model tiny")
}

func TestWithWaitNothingServesWhileTheEngineIsBuilt(t *testing.T) {
	t.Parallel()
	config, _ := serviceConfig(t, "test:noise", "")
	b, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	write(t, config, []byte(strings.Replace(string(b), "{name: tiny,", "{name: tiny, while_building: wait,", 1)))
	s := onDouble(t, config, "delay build 1h phase tactics")
	waiting := s.when("it builds", func(s *daemon.Status) bool { return s.Models[0].State == "building" })
	if waiting.Ready || len(waiting.Reasons) == 0 {
		t.Errorf("ready %v, reasons %q", waiting.Ready, waiting.Reasons)
	}
	wantParts(t, waiting.Reasons[0], "tiny", "building")
	if status := s.stop(syscall.SIGTERM); status != 0 { // within 5 s, builder and all
		t.Errorf("exit status %d", status)
	}
}

func TestBuildsThatFailLeaveTheCPUServing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ script, outcome, reason string }{
		"refused": {`fail build 11 "node 3 (Conv): no such thing"`, "failed", "no such thing"},
		"crash":   {"crash build", "crashed", "SIGABRT"},
		"memory":  {`fail build 5 "out of memory"`, "failed", "out of memory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config, _ := serviceConfig(t, "test:noise", "")
			s := onDouble(t, config, c.script)
			m := s.when("the build has failed and the CPU serves", func(s *daemon.Status) bool {
				m := s.Models[0]
				return byTheCPU(s) && m.Builds[c.outcome] > 0 && m.Build != nil && m.Build.NextTry != nil
			}).Models[0]
			wantParts(t, m.Reason, c.reason)
			wantParts(t, command(t, "release", "status", "-c", config).stdout, c.reason, "tried again at")
			if m.Builds[c.outcome] != 1 {
				t.Errorf("builds %v: it was tried again at once", m.Builds)
			}
		})
	}
}

// modelKeys gives the configuration's one model more keys.
func modelKeys(t *testing.T, config, keys string) {
	t.Helper()
	b, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	write(t, config, []byte(strings.Replace(string(b), "{name: tiny,", "{name: tiny, "+keys+",", 1)))
}

func TestTheGPUServesWhereDLAHasTooManyPieces(t *testing.T) {
	t.Parallel()
	layer := func(name, kind string) string {
		return `{"Name": "` + name + `", "LayerType": "` + kind + `", "Inputs": [], "Outputs": []}`
	}
	layers := write(t, filepath.Join(t.TempDir(), "layers.json"), []byte(`{"Layers": [`+strings.Join([]string{
		layer("{ForeignNode[a...b]}", "DLA"), layer("norm", "PluginV2"), layer("{ForeignNode[c...d]}", "DLA"),
	}, ", ")+`], "Bindings": []}`))
	config, _ := serviceConfig(t, "test:noise", "")
	modelKeys(t, config, "placement: {device: dla, max_pieces: 1}")
	const reason = `the GPU instead of DLA: the network is in 2 pieces on DLA, placement.max_pieces is 1: on the GPU are "norm"`
	for start := range 2 {
		script := []string{"cores 1", "layers " + layers}
		if start == 1 {
			script = append(script, `fail build 11 "nothing is to be built"`)
		}
		s := onDouble(t, config, script...)
		m := s.when("the GPU's engine serves", byTensorRT).Models[0]
		if m.Engine.Device != "gpu" || m.Engine.Stored != (start == 1) || m.Builds["failed"] > 0 {
			t.Errorf("start %d: %+v, engine %+v", start, m, m.Engine)
		}
		wantParts(t, m.Reason, reason)
		s.stop(syscall.SIGTERM)
		if n := strings.Count(s.log.String(), "the GPU takes the place of DLA"); n != 1 {
			t.Errorf("start %d: it is said %d times", start, n)
		}
	}
}

func TestAServiceWhoseCUDABrokeIsWellAfterItsRestart(t *testing.T) {
	t.Parallel()
	config, _ := serviceConfig(t, "test:noise", "")
	const breaking = `fail run after 60 13 "running the engine: CUDA_ERROR_ILLEGAL_ADDRESS"`
	first := onDouble(t, config, breaking)
	if status := first.end(); status != 1 {
		t.Errorf("exit status %d", status)
	}
	wantParts(t, first.refusal(), "CUDA doesn't work any more in this process", "has to be started again", "dmesg", "CUDA_ERROR_ILLEGAL_ADDRESS")

	second := onDouble(t, config, breaking)
	m := second.when("it breaks again, and the CPU serves", func(s *daemon.Status) bool {
		return byTheCPU(s) && s.Models[0].Build != nil && s.Models[0].Build.NextTry != nil
	}).Models[0]
	wantParts(t, m.Reason, "CUDA_ERROR_ILLEGAL_ADDRESS", "the CPU serves; TensorRT's engine is tried again at ")
	if m.Builds["failed"]+m.Damaged > 0 {
		t.Errorf("the engine is blamed: %+v", m)
	}
	if status := second.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d", status)
	}

	third := onDouble(t, config)
	if m := third.when("TensorRT serves again", byTensorRT).Models[0]; !m.Engine.Stored {
		t.Errorf("engine %+v", m.Engine)
	}
	third.stop(syscall.SIGTERM)
}

func TestWhatTensorRTLogsWhileItRunsIsSaidOnceAndCounted(t *testing.T) {
	t.Parallel()
	config, _ := serviceConfig(t, "test:noise", "")
	s := onDouble(t, config, `fail run after 60 11 "no kernel image"`)
	status := s.when("the CPU serves instead", func(s *daemon.Status) bool {
		return byTheCPU(s) && s.TensorRTErrors > 5
	})
	wantParts(t, status.Models[0].Reason, "no kernel image")
	s.stop(syscall.SIGTERM)
	const line = `msg="tensorrt says" error="IExecutionContext::enqueueV3: no kernel image"`
	if n := strings.Count(s.log.String(), line); n != 1 {
		t.Errorf("the log has it %d times: %s", n, line)
	}
}

func TestAModelThatTensorRTRefusesIsServedByItsNextVersion(t *testing.T) {
	t.Parallel()
	config, state := serviceConfig(t, "test:noise", "")
	for range 2 {
		s := onDouble(t, config, `fail build 6 "node 3 (NonMaxSuppression): no importer registered"`)
		m := s.when("the CPU serves for good", func(s *daemon.Status) bool {
			return byTheCPU(s) && strings.HasSuffix(s.Models[0].Reason, "TensorRT has no engine for it")
		}).Models[0]
		wantParts(t, m.Reason, "NonMaxSuppression", "TensorRT 10.3.0 refuses the model", "another version may take it")
		s.stop(syscall.SIGTERM)
	}
	if notes, _ := filepath.Glob(filepath.Join(state, "engines", "*.failed.json")); len(notes) != 1 {
		t.Errorf("%d failures are noted", len(notes))
	} else if note := content(t, notes[0]); !strings.Contains(note, `"count": 1,`) {
		t.Errorf("it was tried again: %s", note)
	}
	s := onDouble(t, config, "version 10.6.0")
	s.when("TensorRT's engine serves", byTensorRT)
	s.stop(syscall.SIGTERM)
}
