package dla_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightd/sightd/dla"
)

// on lists layers of an engine that are on the device: names, each with its type
// before a colon.
func on(device string, layers ...string) []dla.Layer {
	var list []dla.Layer
	for _, l := range layers {
		typ, name, _ := strings.Cut(l, ":")
		list = append(list, dla.Layer{Name: name, Type: typ, Device: device, Precision: "int8", Reformat: typ == "Reformat"})
	}
	return list
}

func engine(parts ...[]dla.Layer) []dla.Layer {
	var all []dla.Layer
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// can lists layers of a network; those after a "!" DLA can't run.
func can(names ...string) []dla.Verdict {
	var list []dla.Verdict
	for _, n := range names {
		name, cannot := strings.CutPrefix(n, "!")
		list = append(list, dla.Verdict{Layer: name, Can: !cannot})
	}
	return list
}

// resNet50 is torchvision's, as TensorRT's parser names its layers: blocks of three
// convolutions, the first of a stage with a fourth on its shortcut.
func resNet50() []dla.Verdict {
	names := []string{"/conv1/Conv", "/relu/Relu", "/maxpool/MaxPool"}
	for stage, blocks := range []int{3, 4, 6, 3} {
		for block := range blocks {
			at := fmt.Sprintf("/layer%d/layer%d.%d", stage+1, stage+1, block)
			names = append(names, at+"/conv1/Conv", at+"/relu/Relu", at+"/conv2/Conv", at+"/relu_1/Relu", at+"/conv3/Conv")
			if block == 0 {
				names = append(names, at+"/downsample/downsample.0/Conv")
			}
			names = append(names, at+"/Add", at+"/relu_2/Relu")
		}
	}
	names = append(names, "!/avgpool/GlobalAveragePool", "!/Flatten", "!fc.weight", "/fc/Gemm", "!fc.bias", "!ONNXTRT_Broadcast",
		"(Unnamed Layer* 125) [ElementWise]")
	return can(names...)
}

func TestReportOfResNet50(t *testing.T) {
	t.Parallel()
	// TensorRT 10.3 on an AGX Orin; in FP16 it is the same but for more reformats.
	layers := engine(
		on("gpu", "Reformat:Reformatting CopyNode for Input Tensor 0"),
		on("dla", "DLA:{ForeignNode[/conv1/Conv.../layer4/layer4.2/relu_2/Relu]}"),
		on("gpu", "Reduce:/avgpool/GlobalAveragePool"),
		on("dla", "DLA:{ForeignNode[/fc/Gemm + (Unnamed Layer* 125) [ElementWise]]}"),
		on("gpu", "Reformat:Reformatting CopyNode for Input Tensor 0 to reshape_after_/fc/Gemm", "NoOp:reshape_after_/fc/Gemm"),
	)
	r := dla.Inspect(layers, resNet50())
	if len(r.Pieces) != 2 || r.Pieces[0].Layers != 119 || r.Pieces[1].Layers != 2 || r.Reformats != 2 || !r.Exact {
		t.Errorf("%+v", r)
	}
	if first := r.Pieces[0]; first.First != "/conv1/Conv" || first.Last != "/layer4/layer4.2/relu_2/Relu" {
		t.Errorf("the first piece is from %q to %q", first.First, first.Last)
	}
	if diff := cmp.Diff([]string{"/avgpool/GlobalAveragePool"}, r.OnGPU); diff != "" {
		t.Error(diff) // not Flatten and constants, which TensorRT warns of and folds away
	}
	if diff := cmp.Diff([]string{"reshape_after_/fc/Gemm"}, r.Nothing); diff != "" {
		t.Error(diff)
	}
	if want := 121.0 / 122; math.Abs(r.Share-want) > 1e-9 {
		t.Errorf("share %v, want %v", r.Share, want)
	}
	if got, want := r.String(), "2 pieces on DLA with 121 layers (99.2 %), 1 layer on the GPU, 2 reformats"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// A small network with a normalisation behind each convolution, which DLA has not:
// it falls into as many pieces as convolutions, and one.
func TestReportOfANetworkInManyPieces(t *testing.T) {
	t.Parallel()
	var names []string
	layers := engine()
	for i, at := range []int{0, 11, 22, 33} {
		conv := fmt.Sprintf("Conv_%d", at)
		names = append(names, conv)
		piece := conv
		if i > 0 {
			piece = fmt.Sprintf("Relu_%d...%s", at-1, conv)
		}
		layers = append(layers, on("dla", "DLA:{ForeignNode["+piece+"]}")...)
		reshape, norm, back := fmt.Sprintf("Reshape_%d", at+2), fmt.Sprintf("InstanceNormalization_%d", at+5), fmt.Sprintf("Reshape_%d", at+7)
		mul, add := fmt.Sprintf("Mul_%d", at+8), fmt.Sprintf("Add_%d", at+9)
		layers = append(layers, on("gpu", "Shuffle:"+reshape, "PluginV2:"+norm, "Shuffle:"+back, "Scale:"+mul, "Scale:"+add)...)
		names = append(names, "!"+reshape, "!"+norm, "!"+back, mul, add, fmt.Sprintf("Relu_%d", at+10))
	}
	layers = append(layers, on("dla", "DLA:{ForeignNode[Relu_43]}")...)
	r := dla.Inspect(layers, can(names...))
	if len(r.Pieces) != 5 || r.DLALayers != 8 || r.GPULayers != 20 { // Mul and Add could, but lie between what can't
		t.Errorf("%v", r)
	}
	err := r.Check(dla.Wish{MaxPieces: 4, MaxGPUShare: 1})
	var over *dla.LimitError
	if !errors.As(err, &over) || !strings.HasPrefix(over.What, "the network is in 5 pieces on DLA") || !strings.Contains(err.Error(), `5 pieces on DLA, placement.max_pieces is 4: on the GPU are "Reshape_2" (Shuffle)`) ||
		!strings.Contains(err.Error(), "and 17 more; raise max_pieces") {
		t.Error(err)
	}
	err = r.Check(dla.Wish{MaxGPUShare: 0.5})
	if err == nil || !strings.Contains(err.Error(), "71.4 % of the layers run on the GPU, placement.max_gpu_share is 50.0 %") {
		t.Error(err)
	}
	if err := r.Check(dla.Wish{MaxPieces: 5, MaxGPUShare: 0.75}); err != nil {
		t.Error(err)
	}
}

// The same network with batch normalisation, which is part of the convolutions, and
// with global pooling, which DLA has not; then with a pooling that it has.
func TestReportOfANetworkWithAndWithoutGlobalPooling(t *testing.T) {
	t.Parallel()
	convs := []string{"Conv_0", "Relu_1", "Conv_2", "Relu_3", "Conv_4", "Relu_5", "Conv_6", "Relu_7"}
	head := []string{"!linear.weight", "Gemm_15", "!linear.bias", "!ONNXTRT_Broadcast", "(Unnamed Layer* 16) [ElementWise]"}

	global := dla.Inspect(engine(
		on("dla", "DLA:{ForeignNode[Conv_0...Relu_7]}"),
		on("gpu", "Reduce:GlobalAveragePool_8"),
		on("dla", "DLA:{ForeignNode[Gemm_15 + linear.bias + (Unnamed Layer* 16) [ElementWise]]}"),
		on("gpu", "NoOp:copied_squeeze_after_(Unnamed Layer* 16) [ElementWise]"),
	), can(append(append(convs[:8:8], "!GlobalAveragePool_8"), head...)...))
	if len(global.Pieces) != 2 || global.DLALayers != 10 || global.GPULayers != 1 || !global.Exact {
		t.Errorf("%v", global)
	}

	pooled := dla.Inspect(engine(
		on("dla", "DLA:{ForeignNode[Conv_0...Gemm_15]}"),
		on("gpu", "NoOp:reshape_after_Gemm_15"),
	), can(append(convs[:8:8], "AveragePool_8", "!Flatten_9", "!linear.weight", "Gemm_15")...))
	if len(pooled.Pieces) != 1 || pooled.DLALayers != 10 || pooled.GPULayers != 0 || pooled.Share != 1 {
		t.Errorf("%v", pooled)
	}
	if err := pooled.Check(dla.Wish{MaxPieces: 1, MaxGPUShare: 0}); err != nil {
		t.Error(err)
	}
}

func TestReportWithoutVerdictsIsALowerBound(t *testing.T) {
	t.Parallel()
	r := dla.Inspect(engine(on("dla", "DLA:{ForeignNode[a...b]}", "DLA:{ForeignNode[c]}"), on("gpu", "Reduce:d + e")), nil)
	if r.Exact || r.DLALayers != 3 || r.GPULayers != 1 || !strings.HasPrefix(r.String(), "2 pieces on DLA with at least 3 layers (at least 75.0 %)") {
		t.Errorf("%+v", r)
	}
}

func TestNamesWithDotsAndBracketsAreToldApart(t *testing.T) {
	t.Parallel()
	r := dla.Inspect(on("dla", "DLA:{ForeignNode[a...[x]...b...c]}"), can("a...[x]", "between", "b...c", "behind"))
	if p := r.Pieces[0]; p.First != "a...[x]" || p.Last != "b...c" || p.Layers != 3 {
		t.Errorf("%+v", p)
	}
}

// TensorRT gives parts of a network on the GPU names of the same form.
func TestAForeignNodeOnTheGPUIsNoPiece(t *testing.T) {
	t.Parallel()
	r := dla.Inspect(on("gpu", "Myelin:{ForeignNode[a...b]}"), can("a", "b"))
	err := r.Check(dla.Wish{MaxGPUShare: 1})
	if len(r.Pieces) != 0 || err == nil || !strings.Contains(err.Error(), "no layer runs on DLA") || !strings.Contains(err.Error(), "device: gpu") {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestAFullCoreIsSaid(t *testing.T) {
	t.Parallel()
	var names []string
	for i := range dla.Loadables {
		names = append(names, fmt.Sprintf("DLA:{ForeignNode[conv%d]}", i))
	}
	if got := dla.Inspect(on("dla", names...), nil).String(); !strings.Contains(got, "a core holds no more than 16 pieces") {
		t.Error(got)
	}
}

// Whatever names an engine's layers have, shares stay shares.
func FuzzInspect(f *testing.F) {
	f.Add("{ForeignNode[a...b]}", "a", "a + b", "b")
	f.Add("{ForeignNode[...]}", "", "...", "....")
	f.Fuzz(func(t *testing.T, piece, first, gpu, last string) {
		layers := []dla.Layer{{Name: piece, Device: "dla"}, {Name: gpu, Device: "gpu"}}
		r := dla.Inspect(layers, []dla.Verdict{{Layer: first, Can: true}, {Layer: "m", Can: true}, {Layer: last}})
		if !(r.Share >= 0 && r.Share <= 1) || len(r.Pieces) != 1 {
			t.Errorf("%+v", r)
		}
		_ = r.Check(dla.Wish{MaxPieces: 1})
	})
}
