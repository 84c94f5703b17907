package main

import (
	"strings"
	"syscall"
	"testing"

	"github.com/sightd/sightd/daemon"
)

// wantLine holds the log to have a line with all parts.
func wantLine(t *testing.T, log string, parts ...string) {
	t.Helper()
lines:
	for _, line := range strings.Split(log, "\n") {
		for _, part := range parts {
			if !strings.Contains(line, part) {
				continue lines
			}
		}
		return
	}
	t.Errorf("the log has no line with %q", parts)
}

const withoutCore = "this machine has no DLA core"

func TestTheLogSaysWhyNotDLA(t *testing.T) {
	t.Parallel()
	config, _ := serviceConfig(t, "test:noise", "")
	modelKeys(t, config, "placement: {device: dla}")
	s := onDouble(t, config)
	m := s.when("TensorRT serves", byTensorRT).Models[0]
	wantParts(t, m.Reason, "the GPU instead of DLA: "+withoutCore)
	if m.Engine.Device != "gpu" {
		t.Errorf("engine %+v", m.Engine)
	}
	s.stop(syscall.SIGTERM)
	wantLine(t, s.log.String(), "level=INFO", "msg=serving", "device=gpu", `reason="the GPU instead of DLA: `+withoutCore)
}

func TestTheCPUStandsInForAMissingDLA(t *testing.T) {
	t.Parallel()
	config, _ := serviceConfig(t, "test:noise", "")
	modelKeys(t, config, "placement: {device: dla, fallback: false}")
	s := onDouble(t, config)
	m := s.when("the CPU serves for good", func(s *daemon.Status) bool {
		return byTheCPU(s) && strings.HasSuffix(s.Models[0].Reason, "the CPU serves, as TensorRT has no engine for it")
	}).Models[0]
	wantParts(t, m.Reason, "placement.device: dla without fallback", withoutCore)
	if m.Build != nil {
		t.Errorf("it is to be tried again: %+v", m.Build)
	}
	s.stop(syscall.SIGTERM)
	log := s.log.String()
	wantLine(t, log, "level=WARN", "TensorRT's engine can't serve, so the CPU does", withoutCore)
	if strings.Contains(log, "level=ERROR") {
		t.Error("there is an error in the log, though the CPU serves")
	}
}

func TestADaemonWithoutDLAWaits(t *testing.T) {
	t.Parallel()
	config, _ := serviceConfig(t, "test:noise", "")
	modelKeys(t, config, "while_building: wait, placement: {device: dla, fallback: false}")
	s := onDouble(t, config)
	status := s.when("it has failed", func(s *daemon.Status) bool { return s.Models[0].State == "failed" })
	if status.Ready || len(status.Reasons) != 1 || status.Models[0].Build != nil {
		t.Errorf("%+v", status)
	}
	wantParts(t, strings.Join(status.Reasons, "; "), "model tiny: failed: ", withoutCore)
	if status := s.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d", status)
	}
	wantLine(t, s.log.String(), "level=ERROR", "release can't be served", withoutCore)
}

func TestWithoutTensorRTTheCPUSaysSo(t *testing.T) {
	t.Parallel()
	const broken = `fail open 4 "the driver is too old"`
	for name, c := range map[string]struct {
		placement, inference, script string
		reason                       []string // none: there is nothing to be said
	}{
		"DLA on ort": {"{device: dla, fallback: false}", "{backend: ort}", "", []string{"asked for DLA: the CPU serves, as inference.backend is ort"}},
		"GPU on ort": {"{device: gpu}", "{backend: ort}", "", []string{"asked for the GPU: the CPU serves, as inference.backend is ort"}},
		"ort":        {"{device: auto}", "{backend: ort}", broken, nil},
		"DLA broken": {"{device: dla, fallback: false}", "{backend: auto}", broken, []string{"asked for DLA: the CPU serves, as TensorRT isn't used: ", "the driver is too old"}},
		"broken":     {"{device: auto}", "{backend: auto}", broken, []string{"TensorRT isn't used: ", "the driver is too old"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config, _ := serviceConfig(t, "test:noise", "inference: "+c.inference+"\n")
			modelKeys(t, config, "placement: "+c.placement)
			s := onDouble(t, config, c.script)
			m := s.when("the CPU serves", func(s *daemon.Status) bool { m := s.Models[0]; return m.State == "serving" && m.Frames > 0 }).Models[0]
			if m.Interim || m.Engine.Backend != "ort" || (m.Reason == "") != (c.reason == nil) {
				t.Errorf("%+v, engine %+v", m, m.Engine)
			}
			wantParts(t, m.Reason, c.reason...)
			s.stop(syscall.SIGTERM)
			if c.reason != nil {
				wantLine(t, s.log.String(), append(c.reason, "msg=serving")...)
			}
		})
	}
}
