package trt

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Limits of what the inspector says: the largest models have some thousand layers.
const (
	maxInspection = 64 << 20
	maxLayers     = 100_000
)

// inspection is IEngineInspector::getEngineInformation as JSON. At less than
// detailed verbosity layers are bare names. What isn't used here isn't parsed, and
// what isn't as expected is taken for absent: versions differ.
type inspection struct {
	Layers []json.RawMessage `json:"Layers"`
}

type inspectedLayer struct {
	Name          string
	LayerType     string
	ParameterType string
	TacticName    string
	Inputs        tensors
	Outputs       tensors
}

// tensors are a layer's inputs or outputs; other forms than a list of objects count
// as none.
type tensors []inspectedTensor

type inspectedTensor struct {
	Name   string
	Format string // of memory and type, in words
}

func (t *tensors) UnmarshalJSON(b []byte) error {
	var list []json.RawMessage
	if json.Unmarshal(b, &list) != nil {
		return nil
	}
	for _, raw := range list {
		var fields map[string]json.RawMessage
		if json.Unmarshal(raw, &fields) != nil {
			continue
		}
		tensor := inspectedTensor{Name: word(fields["Name"]), Format: word(fields["Format/Datatype"])}
		if tensor.Format == "" {
			tensor.Format = strings.TrimSpace(word(fields["Format"]) + " " + word(fields["Datatype"]))
		}
		*t = append(*t, tensor)
	}
	return nil
}

func word(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// parseLayers reads what the inspector says.
func parseLayers(b []byte) ([]Layer, error) {
	if len(b) > maxInspection {
		return nil, fmt.Errorf("the inspector's JSON has %d bytes, at most %d are taken", len(b), maxInspection)
	}
	var all inspection
	if err := json.Unmarshal(b, &all); err != nil {
		return nil, fmt.Errorf("the inspector's text isn't the JSON that was expected: %w", err)
	}
	if len(all.Layers) > maxLayers {
		return nil, fmt.Errorf("the inspector tells of %d layers, at most %d are taken", len(all.Layers), maxLayers)
	}
	layers := make([]Layer, 0, len(all.Layers))
	for i, raw := range all.Layers {
		if name := word(raw); name != "" {
			layers = append(layers, Layer{Name: name, Device: deviceOf(name, "")})
			continue
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(raw, &fields); err != nil {
			return nil, fmt.Errorf("layer %d of the inspector's JSON is neither a name nor an object", i)
		}
		l := inspectedLayer{
			Name: word(fields["Name"]), LayerType: word(fields["LayerType"]),
			ParameterType: word(fields["ParameterType"]), TacticName: word(fields["TacticName"]),
		}
		_ = l.Inputs.UnmarshalJSON(fields["Inputs"])
		_ = l.Outputs.UnmarshalJSON(fields["Outputs"])
		layers = append(layers, l.layer())
	}
	return layers, nil
}

func (l inspectedLayer) layer() Layer {
	kind := l.ParameterType
	if kind == "" || strings.EqualFold(l.LayerType, "reformat") || strings.EqualFold(l.LayerType, "noop") {
		kind = l.LayerType
	}
	made := Layer{
		Name: l.Name, Type: kind, Device: deviceOf(l.Name, l.LayerType),
		Reformat: l.reformats(),
	}
	// A convolution computes in its input's type; its output may be wider.
	for _, from := range []tensors{l.Inputs, l.Outputs} {
		if len(from) > 0 && made.Precision == "" {
			made.Precision = precisionOf(from[0].Format)
		}
	}
	if made.Reformat || strings.EqualFold(l.LayerType, "constant") || strings.EqualFold(l.LayerType, "signal") ||
		strings.EqualFold(l.LayerType, "wait") {
		made.Precision = ""
	}
	return made
}

// reformats tells whether a layer changes a tensor's format or type alone.
func (l inspectedLayer) reformats() bool {
	switch strings.ToLower(l.LayerType) {
	case "reformat", "noop":
		return true
	}
	return strings.HasPrefix(l.Name, "Reformatting CopyNode ") || strings.EqualFold(l.ParameterType, "reformat")
}

// deviceOf tells where a layer runs: what DLA has taken is one foreign node.
func deviceOf(name, kind string) string {
	if strings.Contains(strings.ToUpper(kind), "DLA") {
		return "dla"
	}
	// On the GPU, foreign nodes are the work of Myelin, whose layers have a type of that name.
	if strings.Contains(name, "{ForeignNode[") && !strings.Contains(strings.ToLower(kind), "myelin") && kind != "kgen" {
		return "dla"
	}
	return "gpu"
}

// precisions are the types as the inspector's words have them, longer ones first
// where one holds another.
var precisions = []struct{ word, name string }{
	{"BF16", "bf16"},
	{"BFLOAT16", "bf16"},
	{"FP16", "fp16"},
	{"HALF", "fp16"},
	{"FP32", "fp32"},
	{"FLOAT", "fp32"},
	{"UINT8", "uint8"},
	{"INT8", "int8"},
	{"FP8", "fp8"},
	{"FP4", "fp4"},
	{"INT4", "int4"},
	{"INT32", "int32"},
	{"INT64", "int64"},
	{"BOOL", "bool"},
}

// precisionOf finds the type in "Thirty-two wide channel vectorized row major Int8
// format" and the like. "" where it names none.
func precisionOf(format string) string {
	format = strings.ToUpper(format)
	for _, p := range precisions {
		if strings.Contains(format, p.word) {
			return p.name
		}
	}
	return ""
}
