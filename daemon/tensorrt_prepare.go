package daemon

import (
	"fmt"
	"strings"

	"github.com/sightd/sightd/calibcache"
	"github.com/sightd/sightd/dla"
	"github.com/sightd/sightd/release"
	"github.com/sightd/sightd/trt"
)

// Prepare turns a release's model into the graph for TensorRT, and decides between
// GPU and DLA.
func (t *tensorRT) Prepare(rel *release.Release, o PrepareOptions) (*Prepared, error) {
	c, err := rel.Check(o.Precision)
	if err != nil {
		return nil, err
	}
	p := newPrepared(c, o)
	explicit := t.explicit() && p.Precision == "int8"
	if explicit && t.info.TensorRT.Major() < 10 && len(rel.Spec.KeepFP) > 0 {
		return nil, &unfit{fmt.Errorf("keep_fp with quantization explicit: TensorRT %s builds an engine that answers wrong "+
			"where a layer in floating point ends in a Clip before a QuantizeLinear; take quantization implicit, or TensorRT 10",
			t.info.TensorRT)}
	}
	plan := &TensorRTPlan{Wish: dla.Wish(rel.Spec.Placement)}
	if o.Placement != nil {
		plan.Wish = *o.Placement
	}
	choice, err := t.place(rel, plan.Wish, p.Precision, explicit)
	if err != nil {
		return nil, err
	}
	plan.Cores, plan.Reason = choice.Cores, choice.Reason
	if plan.Wish.Device == "dla" && !choice.DLA() {
		p.remark(choice.Reason)
	}
	if p.Batch > 1 && choice.DLA() {
		p.Batch = 1
		p.remark("on DLA images run one at a time, one on each core")
	}
	form := release.TensorRTOptions{Version: t.info.TensorRT.String(), Form: release.Implicit, Batch: p.Batch, Fixed: choice.DLA(), Softmax: true}
	if explicit {
		form.Form = release.Explicit
	}
	g, err := t.graph(c, form, choice, p)
	if err != nil {
		return nil, err
	}
	plan.Job = t.job(p, explicit)
	plan.Job.Calibrator, plan.Job.Keep = g.Calibrator, g.Keep
	if p.Precision == "int8" {
		plan.Quantization = string(form.Form)
	}
	if choice.DLA() {
		plan.Job.DLA = &trt.DLAJob{Fallback: choice.Fallback}
		if d := g.Direct; d != nil {
			plan.Job.DLA.Direct, plan.Job.DLA.InputScale = true, d.InputScale
			plan.Direct = &trt.Direct{Table: d.Table, Channels: d.Channels, Softmax: d.Softmax}
		}
	}
	p.TensorRT = plan
	p.holds(g.Graph, g.Cache)
	return p, nil
}

// place decides between GPU and DLA.
func (t *tensorRT) place(rel *release.Release, w dla.Wish, precision string, explicit bool) (dla.Choice, error) {
	n := dla.Numbers{Precision: precision, Explicit: explicit}
	if w.Device == "dla" && precision == "int8" && !explicit && rel.Calibration != "" {
		cache, err := calibcache.Read(rel.Calibration)
		if err != nil {
			return dla.Choice{}, err
		}
		n.Calibrator = string(cache.Header.Algorithm)
	}
	choice, err := dla.Resolve(w, dla.Machine{Cores: t.info.Device.DLACores, TensorRT: int(t.info.TensorRT)}, n)
	if err != nil {
		return choice, &unfit{err}
	}
	return choice, nil
}

// graph makes the form that is asked for or, for DLA, the second one where it can
// be had: a single layer on the GPU spoils an engine there.
func (t *tensorRT) graph(c *release.Checked, form release.TensorRTOptions, choice dla.Choice, p *Prepared) (*release.TensorRTGraph, error) {
	if choice.DLA() && p.Precision == "int8" && form.Form == release.Implicit {
		direct := form
		direct.Form = release.DirectInput
		g, err := c.TensorRT(direct)
		if err == nil {
			return g, nil
		}
		p.remark(fmt.Sprintf("preprocessing and softmax run on the GPU beside DLA: %v", err))
	}
	return c.TensorRT(form)
}

// job is the build, without what the graph's form says. From TensorRT 10 on a graph
// with Q/DQ nodes is strongly typed; in 8, which lacks that, INT8 is allowed.
func (t *tensorRT) job(p *Prepared, explicit bool) trt.Job {
	o, major := t.options, t.info.TensorRT.Major()
	j := trt.Job{
		INT8: p.Precision == "int8", FP16: p.Precision != "fp32",
		Batch: p.Batch, Workspace: o.Workspace, TacticMemory: o.TacticMemory,
		Optimisation: t.optimisation, ForceINT8: o.ForceINT8,
	}
	if explicit && major >= 10 || major >= 11 {
		if p.Precision == "fp16" {
			p.Precision = "fp32"
			p.remark(fmt.Sprintf("TensorRT %s computes in the graph's own types, so it computes in FP32", t.info.TensorRT))
		}
		j.StronglyTyped, j.INT8, j.FP16, j.ForceINT8 = true, false, false, false
	}
	return j
}

// Placed is where the engine of a prepared graph runs: gpu, dla0, or dla0,dla1.
func (t *tensorRT) Placed(p *Prepared) string {
	if p.Device() != "dla" {
		return "gpu"
	}
	var names []string
	for _, core := range p.TensorRT.Cores {
		names = append(names, fmt.Sprintf("dla%d", core))
	}
	return strings.Join(names, ",")
}

// remark adds to the note.
func (p *Prepared) remark(text string) {
	if p.Note != "" {
		p.Note += "; "
	}
	p.Note += text
}
