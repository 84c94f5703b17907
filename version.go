package main

import (
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/sightd/sightd/daemon"
	"github.com/sightd/sightd/ort"
)

// Set by the linker; see the Makefile.
var (
	version = "dev"
	commit  = "unknown"
)

type versionCmd struct {
	JSON bool `name:"json" help:"One JSON document."`
}

// backEnd is a back end and whether this machine has it.
type backEnd struct {
	Name    string `json:"name"`
	Found   bool   `json:"found"`
	Version string `json:"version,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Device  string `json:"device,omitempty"`
	Library string `json:"library,omitempty"`
}

func tensorRT(a *app) backEnd {
	b := backEnd{Name: "tensorrt"}
	info, err := daemon.FindTensorRT(a.ctx, "")
	if info.TensorRT > 0 {
		b.Version = info.TensorRT.String()
	}
	if err != nil {
		b.Reason = daemon.Unopened(err.Error())
		return b
	}
	b.Found, b.Device, b.Library = true, info.Device.Name, info.Library
	return b
}

func (c *versionCmd) Run(a *app) error {
	cpu := backEnd{Name: "ort", Found: true}
	if err := ort.Open(""); err != nil {
		cpu.Found, cpu.Reason = false, err.Error()
	} else {
		cpu.Version = ort.Version()
	}
	backEnds := []backEnd{tensorRT(a), cpu}
	if c.JSON {
		return json.NewEncoder(a.stdout).Encode(map[string]any{
			"version": version, "commit": commit, "go": runtime.Version(),
			"platform": runtime.GOOS + "/" + runtime.GOARCH, "backends": backEnds,
		})
	}
	fmt.Fprintf(a.stdout, "sightd %s (%s), %s %s/%s\n", version, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	for _, b := range backEnds {
		if b.Found {
			fmt.Fprintf(a.stdout, "%-9s %s%s\n", b.Name, b.Version, ifset(b.Device, " on "+b.Device))
		} else {
			fmt.Fprintf(a.stdout, "%-9s not here: %s\n", b.Name, b.Reason)
		}
	}
	return nil
}
