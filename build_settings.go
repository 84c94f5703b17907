package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sightd/sightd/daemon"
	"github.com/sightd/sightd/dla"
	"github.com/sightd/sightd/release"
)

// check refuses what can't be meant, before anything is opened.
func (c *buildCmd) check() error {
	if c.Batch < 1 || c.Batch > 1024 {
		return usagef("--batch %d: want 1 to 1024", c.Batch)
	}
	if n, err := strconv.Atoi(c.Cores); c.Cores != "auto" && (err != nil || n < 1) {
		return usagef("--cores %s: want auto or a number of DLA cores", c.Cores)
	}
	if c.Cores != "auto" && c.Device != "dla" {
		return usagef("--cores %s: these are DLA's: it takes --device dla", c.Cores)
	}
	if c.ForceINT8 && c.Precision != "auto" && c.Precision != "int8" {
		return usagef("--force-int8 is about INT8, --precision says %s", c.Precision)
	}
	if c.Output != "" && filepath.Ext(c.Output) == ".json" {
		return usagef("-o %s: the engine's description goes to a file of that ending: want another, such as .engine", c.Output)
	}
	if given := c.configured(); c.Config != "" && len(given) > 0 {
		return usagef("%s: with -c the configuration says that: change it there, or leave out -c", strings.Join(given, ", "))
	}
	return c.modelFlags.check(c.forTensorRT()...)
}

// forTensorRT are those of build's own flags given that are for TensorRT alone.
func (c *buildCmd) forTensorRT() []string {
	var given []string
	if c.Device != "release" {
		given = append(given, "--device "+c.Device)
	}
	if int64(c.Workspace) != defaultWorkspace {
		given = append(given, "--workspace")
	}
	if c.Tactics != 0 {
		given = append(given, "--tactic-memory")
	}
	if c.ForceINT8 {
		given = append(given, "--force-int8")
	}
	return given
}

// configured are the flags given that a configuration has keys for, or no daemon has.
func (c *buildCmd) configured() []string {
	given := append(c.modelFlags.forTensorRT(), c.forTensorRT()...)
	if c.Batch != 1 {
		given = append(given, fmt.Sprintf("--batch %d", c.Batch))
	}
	if c.Precision != "auto" {
		given = append(given, "--precision "+c.Precision)
	}
	if c.Threads != 0 {
		given = append(given, fmt.Sprintf("--threads %d", c.Threads))
	}
	if c.Engines != "" {
		given = append(given, "--engines "+c.Engines)
	}
	return given
}

// settings are what the engine depends on beside the release: the flags, or what the
// daemon of a configuration builds with.
func (c *buildCmd) settings(a *app, rel *release.Release) (daemon.ModelOptions, error) {
	o := c.options(a)
	if c.Config != "" {
		return c.daemons(o, rel)
	}
	o.Batch = c.Batch
	o.Workspace, o.TacticMemory, o.ForceINT8 = int64(c.Workspace), int64(c.Tactics), c.ForceINT8
	if c.Device != "release" {
		wish := dla.Wish(rel.Spec.Placement)
		wish.Device, wish.Cores = c.Device, c.Cores
		o.Placement = &wish
	}
	return o, nil
}

func (c *buildCmd) daemons(flags daemon.ModelOptions, rel *release.Release) (daemon.ModelOptions, error) {
	cfg, err := daemon.LoadConfig(c.Config, os.Environ())
	if err != nil {
		return flags, err
	}
	o := daemon.ModelOptions{BackendOptions: cfg.BackendOptions(flags.Log), Batch: max(cfg.Inference.Batch.N(), 1)}
	if c.Backend != "auto" {
		o.Name = c.Backend
	}
	for _, m := range cfg.Models {
		if m.Name != rel.Spec.Name {
			continue
		}
		if m.Placement != nil {
			wish := dla.Wish(m.Placement.Over(rel.Spec.Placement))
			o.Placement = &wish
		}
		return o, nil
	}
	return o, fmt.Errorf("the configuration has no model %s: add it under models", rel.Spec.Name)
}

// notes says what was built otherwise than one may think.
func (c *buildCmd) notes(a *app, m *daemon.Model) {
	if m.WhyNot != "" {
		a.note("tensorrt isn't used: " + daemon.Unopened(m.WhyNot))
	}
	c.note(a, m.Backend, c.forTensorRT()...)
	p := m.TensorRT
	switch {
	case !c.ForceINT8 || p == nil:
	case m.Precision != "int8":
		a.note("--force-int8: without effect, the precision is " + m.Precision)
	case p.Job.StronglyTyped:
		a.note("--force-int8: without effect where the graph says itself what is INT8 (" + p.Quantization + " quantisation)")
	}
}
