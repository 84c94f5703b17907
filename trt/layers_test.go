package trt_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightd/sightd/trt"
)

const detailed = `{"Layers": [
  {"Name": "Reformatting CopyNode for Input Tensor 0 to conv1 + relu1", "LayerType": "Reformat",
   "Inputs": [{"Name": "input", "Location": "Device", "Dimensions": [1,3,8,8], "Format/Datatype": "Row major linear FP32"}],
   "Outputs": [{"Name": "r", "Location": "Device", "Dimensions": [1,3,8,8], "Format/Datatype": "Four wide channel vectorized row major Int8 format"}],
   "ParameterType": "Reformat", "Origin": "REFORMAT", "TacticValue": "0x0"},
  {"Name": "conv1 + relu1", "LayerType": "CaskConvolution",
   "Inputs": [{"Name": "r", "Dimensions": [1,3,8,8], "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}],
   "Outputs": [{"Name": "c", "Dimensions": [1,8,8,8], "Format/Datatype": "Row major linear FP32"}],
   "ParameterType": "Convolution", "Kernel": [1,1], "TacticName": "sm80_xmma_fprop", "Metadata": "[ONNX Layer: conv1]"},
  {"Name": "pool", "LayerType": "PoolingV2", "ParameterType": "Pooling",
   "Inputs": [{"Name": "c", "Dimensions": [1,8,8,8], "Format/Datatype": "Channel major FP16 format where channel % 4 == 0"}], "Outputs": []},
  {"Name": "fc", "LayerType": "gemm",
   "Inputs": [{"Name": "c", "Dimensions": [1,8], "Format": "Row major linear", "Datatype": "BFloat16"}], "Outputs": []},
  {"Name": "{ForeignNode[conv2...conv9]}", "LayerType": "DLA",
   "Inputs": [{"Name": "d", "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}], "Outputs": []},
  {"Name": "{ForeignNode[attention...add]}", "LayerType": "Myelin",
   "Inputs": [{"Name": "d", "Format/Datatype": "Row major linear FP16 format"}], "Outputs": []},
  {"Name": "shuffle", "LayerType": "NoOp", "Inputs": [{"Name": "d", "Format/Datatype": "Row major linear FP32"}], "Outputs": []},
  {"Name": "weights", "LayerType": "Constant", "Inputs": [], "Outputs": [{"Name": "w", "Format/Datatype": "Row major linear FP32"}]},
  {"Name": "odd", "LayerType": 7, "Inputs": "none", "Outputs": {"a": 1}}
], "Bindings": ["input", "output"]}`

func TestLayersAsTheInspectorTellsThem(t *testing.T) {
	t.Parallel()
	layers, err := trt.ParseLayers([]byte(detailed))
	if err != nil {
		t.Fatal(err)
	}
	want := []trt.Layer{
		{Name: "Reformatting CopyNode for Input Tensor 0 to conv1 + relu1", Type: "Reformat", Device: "gpu", Reformat: true},
		{Name: "conv1 + relu1", Type: "Convolution", Precision: "int8", Device: "gpu"},
		{Name: "pool", Type: "Pooling", Precision: "fp16", Device: "gpu"},
		{Name: "fc", Type: "gemm", Precision: "bf16", Device: "gpu"},
		{Name: "{ForeignNode[conv2...conv9]}", Type: "DLA", Precision: "int8", Device: "dla"},
		{Name: "{ForeignNode[attention...add]}", Type: "Myelin", Precision: "fp16", Device: "gpu"},
		{Name: "shuffle", Type: "NoOp", Device: "gpu", Reformat: true},
		{Name: "weights", Type: "Constant", Device: "gpu"},
		{Name: "odd", Device: "gpu"},
	}
	if diff := cmp.Diff(want, layers); diff != "" {
		t.Error(diff)
	}
}

func TestLayersThatAreNamesAlone(t *testing.T) {
	t.Parallel()
	layers, err := trt.ParseLayers([]byte(`{"Layers": ["conv1", "{ForeignNode[a...b]}"], "Bindings": []}`))
	want := []trt.Layer{{Name: "conv1", Device: "gpu"}, {Name: "{ForeignNode[a...b]}", Device: "dla"}}
	if diff := cmp.Diff(want, layers); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestWhatIsNoInspection(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                      "isn't the JSON",
		"[]":                    "isn't the JSON",
		`{"Layers": {"a": 1}}`:  "isn't the JSON",
		`{"Layers": [7]}`:       "layer 0",
		`{"Layers": ["a", []]}`: "layer 1",
		`{"Layers": [` + strings.Repeat(`"a",`, 100_001) + `"a"]}`: "at most 100000",
		strings.Repeat(" ", 65<<20):                                "at most 67108864",
	} {
		if layers, err := trt.ParseLayers([]byte(text)); err == nil || !strings.Contains(err.Error(), want) || layers != nil {
			t.Errorf("%.30q: %v, %v; want an error with %q", text, layers, err, want)
		}
	}
}

func FuzzLayers(f *testing.F) {
	f.Add([]byte(detailed))
	f.Add([]byte(`{"Layers": ["a"]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		layers, err := trt.ParseLayers(b)
		if err != nil {
			if layers != nil {
				t.Errorf("layers beside the error %v", err)
			}
			return
		}
		for _, l := range layers {
			if !slices.Contains([]string{"gpu", "dla"}, l.Device) {
				t.Errorf("device %q", l.Device)
			}
		}
	})
}
