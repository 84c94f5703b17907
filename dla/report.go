package dla

import (
	"fmt"
	"strings"
)

// Layer is a layer of a built engine, as TensorRT's inspector tells it.
type Layer struct {
	Name      string
	Type      string
	Precision string
	Device    string // gpu or dla
	Reformat  bool   // it changes a tensor's format or type alone
}

// Verdict is whether DLA can run a layer of the network, before anything was fused.
type Verdict struct {
	Layer string
	Can   bool
}

// Piece is a part of the network that runs on DLA as one.
type Piece struct {
	Name        string `json:"name"` // TensorRT's
	First, Last string `json:"-"`
	Layers      int    `json:"layers"` // of the network; at least so many where the report isn't exact
}

// Report is what became of a network that was built for DLA.
type Report struct {
	Pieces    []Piece  `json:"pieces"`
	GPU       []Layer  `json:"-"`         // layers of the engine that compute on the GPU, in order
	OnGPU     []string `json:"on_gpu"`    // their names
	Nothing   []string `json:"nothing"`   // layers on the GPU that do nothing
	Reformats int      `json:"reformats"` // layers that change a tensor's format alone
	DLALayers int      `json:"dla_layers"`
	GPULayers int      `json:"gpu_layers"`
	Share     float64  `json:"dla_share"` // of the network's layers that run at all: on DLA; 0 to 1
	Exact     bool     `json:"exact"`     // the verdicts told what is inside of the pieces
}

// Loadables is how many pieces a core holds; TensorRT leaves the rest to the GPU.
const Loadables = 16

// Inspect reads a report off the layers of an engine. The verdicts, in the order of
// the network, tell how many layers a piece is made of, of which TensorRT names the
// first and the last; without them shares are told as if these were all.
//
// What can't run on DLA and is in no layer of the engine either, such as constants
// and reshaping that TensorRT folded away, counts for nothing: warnings about such
// layers are no fallbacks.
func Inspect(layers []Layer, verdicts []Verdict) *Report {
	r := &Report{Pieces: []Piece{}, OnGPU: []string{}, Nothing: []string{}}
	n := networkOf(verdicts)
	for _, l := range layers {
		switch {
		case l.Reformat:
			r.Reformats++
		case l.Device == "dla":
			p := Piece{Name: l.Name}
			p.First, p.Last = n.ends(l.Name)
			r.Pieces = append(r.Pieces, p)
		case doesNothing(l):
			r.Nothing = append(r.Nothing, l.Name)
		default:
			r.GPU = append(r.GPU, l)
			r.OnGPU = append(r.OnGPU, l.Name)
			r.GPULayers += n.take(l.Name)
		}
	}
	r.Exact = len(verdicts) > 0
	for i := range r.Pieces {
		p := &r.Pieces[i]
		var exact bool
		p.Layers, exact = n.inside(p.First, p.Last)
		r.Exact = r.Exact && exact
		r.DLALayers += p.Layers
	}
	if all := r.DLALayers + r.GPULayers; all > 0 {
		r.Share = float64(r.DLALayers) / float64(all)
	}
	return r
}

// doesNothing tells of layers that stand in the engine for something that needs no
// work, as a reshape of what lies in order already.
func doesNothing(l Layer) bool { return strings.EqualFold(l.Type, "NoOp") }

// LimitError is the error of an engine that goes beyond its wish's limits. It runs
// well, and the GPU may run the network instead.
type LimitError struct {
	What string // is beyond which limit
	way  string
}

func (e *LimitError) Error() string { return "dla: " + e.What + "; " + e.way }

// Check says whether the engine keeps to the wish's limits: a [*LimitError] where it
// doesn't. An engine that was built for DLA and has nothing there is another error,
// whatever they are.
func (r *Report) Check(w Wish) error {
	if len(r.Pieces) == 0 {
		return fmt.Errorf("dla: no layer runs on DLA%s; take device: gpu, which needs no fallback", r.culprits())
	}
	if w.MaxPieces > 0 && len(r.Pieces) > w.MaxPieces {
		return &LimitError{
			fmt.Sprintf("the network is in %s on DLA, placement.max_pieces is %d%s", plural(len(r.Pieces), "piece"), w.MaxPieces, r.culprits()),
			"raise max_pieces, change these layers, or take device: gpu",
		}
	}
	if share := 1 - r.Share; share > w.MaxGPUShare {
		return &LimitError{
			fmt.Sprintf("%.1f %% of the layers run on the GPU, placement.max_gpu_share is %.1f %%%s", 100*share, 100*w.MaxGPUShare, r.culprits()),
			"raise max_gpu_share, change these layers, or take device: gpu",
		}
	}
	return nil
}

// culprits names the layers on the GPU, a few of them. A report that was stored knows
// nothing of their types.
func (r *Report) culprits() string {
	const most = 3
	if len(r.OnGPU) == 0 {
		return ""
	}
	var names []string
	for i, name := range r.OnGPU[:min(len(r.OnGPU), most)] {
		text := fmt.Sprintf("%q", name)
		if i < len(r.GPU) {
			text += " (" + r.GPU[i].Type + ")"
		}
		names = append(names, text)
	}
	text := ": on the GPU are " + strings.Join(names, ", ")
	if more := len(r.OnGPU) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// String is the report in a line, for logs and status.
func (r *Report) String() string {
	least := ""
	if !r.Exact {
		least = "at least "
	}
	text := fmt.Sprintf("%s on DLA with %s%s (%s%.1f %%), %s on the GPU, %s", plural(len(r.Pieces), "piece"),
		least, plural(r.DLALayers, "layer"), least, 100*r.Share, plural(r.GPULayers, "layer"), plural(r.Reformats, "reformat"))
	if len(r.Pieces) >= Loadables {
		text += fmt.Sprintf("; a core holds no more than %d pieces, so more layers may have gone to the GPU", Loadables)
	}
	return text
}
