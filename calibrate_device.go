package main

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/sightd/sightd/calibcache"
	"github.com/sightd/sightd/calibration"
	"github.com/sightd/sightd/daemon"
	"github.com/sightd/sightd/release"
)

// onDevice has TensorRT calibrate. Its table is written as it comes, with the names
// and the header that this TensorRT takes.
func (c *calibrateCmd) onDevice(a *app, rel *release.Release, checked *release.Checked, files []string) error {
	r := &calibrated{start: time.Now(), Release: fmt.Sprintf("%s %d", rel.Spec.Name, rel.Spec.Release), KeepFP: slices.Clone(rel.Spec.KeepFP)}
	r.Algorithm = "entropy"
	if c.Algorithm == "minmax" {
		r.Algorithm = c.Algorithm
	}
	bar := progress(a, len(files), "reading images", "images")
	seen := false // an image
	show := &buildProgress{w: a.stderr, what: "calibrating " + r.Release + " with TensorRT"}
	found, err := daemon.CalibrateOnDevice(a.ctx, checked, daemon.DeviceCalibration{
		BackendOptions: daemon.BackendOptions{
			Workspace: defaultWorkspace, Log: slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelError})),
		},
		Files: files, MinMax: r.Algorithm == "minmax",
		Frame: func() {
			seen = true
			show.end()
			_ = bar.Add(1)
		},
		Building: func(p daemon.BuildProgress) {
			if seen {
				_ = bar.Finish()
			}
			show.tell(p)
		},
	})
	_ = bar.Finish()
	show.end()
	if err != nil {
		return err
	}
	r.Images = found.Images
	took := found.Took.Seconds()
	r.Passes = []calibratePass{{"calibrating by " + found.Info.TensorRT.String(), found.Images, took, float64(found.Images) / took}}
	if r.Images < calibration.Few {
		r.warn(a, "%d images are few: want %d at least, better hundreds, of what the cameras will see", r.Images, calibration.Few)
	}
	for _, u := range found.Unreadable {
		why := strings.TrimPrefix(u.Reason, u.Path+": ")
		r.Unreadable = append(r.Unreadable, unreadable{u.Path, why})
		r.warn(a, "%s: %s", u.Path, why)
	}
	cache, err := calibcache.Parse(found.Table)
	if err != nil {
		return fmt.Errorf("the calibration table that TensorRT wrote: %w", err)
	}
	if err := plausible(cache, checked.Model); err != nil {
		return err
	}
	fit, err := calibcache.Check(cache, checked.Model)
	if err != nil {
		return err
	}
	if fit.Coverage < rel.Spec.Coverage {
		r.warn(a, "the table names %.1f %% of the activations that INT8 needs, coverage asks for %.1f %%", 100*fit.Coverage, 100*rel.Spec.Coverage)
	}
	return c.finish(a, rel, r, cache, found.Table)
}
