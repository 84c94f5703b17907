package main

import (
	"fmt"
	"os"

	"github.com/sightd/sightd/release"
)

type releasePackCmd struct {
	Spec       string `arg:"" type:"path" help:"model.yaml, or the folder with it."`
	Out        string `short:"o" required:"" type:"path" placeholder:"OUT" help:"A .tar.zst, or a folder that isn't there."`
	GoldenFrom string `placeholder:"DIR|LIST" help:"Folder of images, or a list with a path a line: those that the model answers clearly, in INT8 as in FP32, become the golden images that a device proves it with."`
	GoldenMost int    `default:"50" placeholder:"N" help:"How many of them at most, spread over the classes (${default})."`
}

func (c *releasePackCmd) Run(a *app) error {
	if c.GoldenMost < 1 || c.GoldenMost > release.MaxGolden {
		return usagef("--golden-most %d: want 1 to %d", c.GoldenMost, release.MaxGolden)
	}
	rel, err := release.Open(c.Spec)
	if err != nil {
		return err
	}
	defer rel.Close()
	if c.GoldenFrom != "" {
		if rel.SpecPath() == "" {
			return usagef("--golden-from: %s is packed: name the model.yaml that it was packed from", c.Spec)
		}
		if err := release.CheckOut(c.Out); err != nil {
			return err
		}
		dir, err := os.MkdirTemp("", "sightd-golden-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		if err := c.golden(a, rel, dir); err != nil {
			return err
		}
	}
	checked, err := rel.Pack(c.Out)
	if err != nil {
		return err
	}
	if c.GoldenFrom == "" {
		tryGolden(a, rel, checked.Labels)
	}
	s := checked.Spec
	fmt.Fprintf(a.stderr, "%s holds release %d of %s: %d×%d pixels, %d classes, %s", c.Out, s.Release, s.Name, checked.Image.Width, checked.Image.Height, checked.Output.Classes, s.Precision)
	if checked.Fit != nil {
		fmt.Fprintf(a.stderr, ", the cache covers %.1f %%", 100*checked.Fit.Coverage)
	}
	fmt.Fprintln(a.stderr)
	return nil
}
