package daemon

import (
	"errors"
	"io"
	"os"

	"github.com/sightd/sightd/dla"
	"github.com/sightd/sightd/trt"
)

// reportOf counts the layers of an engine by precision: those that compute.
func reportOf(built *trt.Built, job trt.Job) *BuildReport {
	r := &BuildReport{Layers: map[string]int{}, Unscaled: built.Unscaled, Kept: job.Keep, Warnings: built.Warnings}
	for _, l := range built.Layers {
		if l.Precision != "" && !l.Reformat {
			r.Layers[l.Precision]++
		}
	}
	return r
}

func layersForDLA(layers []trt.Layer) []dla.Layer {
	list := make([]dla.Layer, len(layers))
	for i, l := range layers {
		list[i] = dla.Layer(l)
	}
	return list
}

func verdictsForDLA(verdicts []trt.DLAVerdict) []dla.Verdict {
	list := make([]dla.Verdict, len(verdicts))
	for i, v := range verdicts {
		list[i] = dla.Verdict(v)
	}
	return list
}

// copyFile copies a file's content to a new one.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Close()); err != nil {
		_ = os.Remove(to) // half of it is worth nothing
	}
	return err
}
