package main

import (
	"os/signal"
	"syscall"

	"github.com/sightd/sightd/trt"
)

// buildChildCmd is the process that an engine is built in.
type buildChildCmd struct {
	Dir string `arg:"" help:"Folder with the job."`
}

func (c *buildChildCmd) Run(*app) error { return child(func() int { return trt.Child(c.Dir) }) }

// probeChildCmd is the process that tries to open TensorRT.
type probeChildCmd struct {
	Library string `arg:"" optional:"" help:"Library to open instead of the one that is found."`
}

func (c *probeChildCmd) Run(*app) error {
	return child(func() int { return trt.ProbeChild(c.Library) })
}

// child runs a child's main function. Signals end it as they end any program, unless
// it takes them itself.
func child(main func() int) error {
	signal.Reset(syscall.SIGINT, syscall.SIGTERM)
	if status := main(); status != 0 {
		return exitStatus(status)
	}
	return nil
}
