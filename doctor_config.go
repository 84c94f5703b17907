package main

import (
	"fmt"
	"strings"

	"github.com/sightd/sightd/camera"
	"github.com/sightd/sightd/daemon"
	"github.com/sightd/sightd/release"
)

// models opens the factory release of each model, as a daemon does at its start.
func (d *doctor) models(cfg *daemon.Config) {
	if cfg == nil {
		return
	}
	if len(cfg.Models) == 0 {
		d.add("model", checkMissing, "the configuration has none", "add one under models")
	}
	for _, m := range cfg.Models {
		name := "model " + m.Name
		if m.Release == "" {
			d.add(name, checkNone, "the configuration names no release: one that is installed serves", "")
			continue
		}
		r, err := release.Open(m.Release)
		if err == nil {
			if r.Spec.Name != m.Name {
				err = fmt.Errorf("%s holds a release of %s", m.Release, r.Spec.Name)
			}
			r.Close()
		}
		if err != nil {
			d.add(name, checkMissing, err.Error(), fmt.Sprintf("set models' release to the path of a release of %s, or leave it out where one is installed", m.Name))
			continue
		}
		d.add(name, checkOK, fmt.Sprintf("release %d of %s", r.Spec.Release, m.Release), "")
	}
}

// cameras looks for what their sources name. None is opened: a daemon may have it.
func (d *doctor) cameras(cfg *daemon.Config) {
	if cfg == nil {
		return
	}
	for _, c := range cfg.Cameras {
		name := "camera " + c.Name
		kind, _, _ := strings.Cut(c.Source, ":")
		switch looked, err := camera.FindSource(c.Source); {
		case err != nil:
			// A daemon starts without, and tries again.
			d.add(name, checkWarning, err.Error(), "correct cameras' source, plug the camera in, or run the doctor as the service's user")
		case looked:
			d.add(name, checkOK, c.Source, "")
		case kind == "test":
			d.add(name, checkOK, c.Source, "")
		default:
			d.add(name, checkNone, fmt.Sprintf("a source of the kind %s shows only when it is opened, which the doctor doesn't do", kind), "")
		}
	}
}
