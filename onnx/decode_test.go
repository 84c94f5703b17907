package onnx

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// chain is a small, sound classifier: Conv, Relu, GlobalAveragePool, Flatten.
func chain() *pb.ModelProto {
	return network(values(tensor("image", float, 1, 3, 8, 8)), values(tensor("scores", float, 1, 4)),
		tensors(floatTensor("weights", []int64{4, 3, 1, 1}, make([]float32, 12)...)),
		op("Conv", "conv", from("image", "weights")),
		op("Relu", "relu", from("conv")),
		op("GlobalAveragePool", "pool", from("relu")),
		op("Flatten", "scores", from("pool")))
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(p *pb.ModelProto, g *pb.GraphProto)
		want   string
	}{
		{"no graph", func(p *pb.ModelProto, _ *pb.GraphProto) { p.Graph = nil }, "no graph in it, want an ONNX model"},
		{"no nodes", func(_ *pb.ModelProto, g *pb.GraphProto) { g.Node = nil }, "the graph has no nodes"},
		{"no output", func(_ *pb.ModelProto, g *pb.GraphProto) { g.Output = nil }, "the graph has no output"},
		{"no format version", func(p *pb.ModelProto, _ *pb.GraphProto) { p.IrVersion = nil }, "no IR version in it"},
		{
			"format of the future", func(p *pb.ModelProto, _ *pb.GraphProto) { p.IrVersion = proto.Int64(99) },
			"IR version 99 is too new, want at most 14",
		},
		{"no opset", func(p *pb.ModelProto, _ *pb.GraphProto) { p.OpsetImport = nil }, "no version of the standard operators"},
		{
			"old opset", func(p *pb.ModelProto, _ *pb.GraphProto) { p.OpsetImport[0].Version = proto.Int64(6) },
			"opset 6 is too old, want 7 to 28: convert the model with onnx.version_converter",
		},
		{
			"opset of the future", func(p *pb.ModelProto, _ *pb.GraphProto) { p.OpsetImport[0].Version = proto.Int64(29) },
			"opset 29 is too new, want 7 to 28",
		},
		{
			"two opsets", func(p *pb.ModelProto, _ *pb.GraphProto) {
				p.OpsetImport = append(p.OpsetImport, &pb.OperatorSetIdProto{Domain: proto.String("ai.onnx"), Version: proto.Int64(9)})
			}, "opset 13 and opset 9",
		},
		{
			"functions of its own", func(p *pb.ModelProto, _ *pb.GraphProto) {
				p.Functions = []*pb.FunctionProto{{Name: proto.String("block")}}
			}, `functions of its own ("block", …): inline them`,
		},
		{
			"unknown operator", func(_ *pb.ModelProto, g *pb.GraphProto) { g.Node[1].OpType = proto.String("EfficientNMS_TRT") },
			`node "relu" (EfficientNMS_TRT): unknown operator "EfficientNMS_TRT": it is none of ONNX's`,
		},
		{
			"unknown domain", func(_ *pb.ModelProto, g *pb.GraphProto) { g.Node[1].Domain = proto.String("acme") },
			`node "relu" (Relu): unknown operator "Relu" of the domain "acme"`,
		},
		{
			"domain without a version", func(_ *pb.ModelProto, g *pb.GraphProto) { g.Node[1].Domain = proto.String("com.microsoft") },
			`node "relu" (Relu): its operators' domain "com.microsoft" isn't imported`,
		},
		{"no operator", func(_ *pb.ModelProto, g *pb.GraphProto) { g.Node[1].OpType = nil }, "no operator is named"},
		{"node without output", func(_ *pb.ModelProto, g *pb.GraphProto) { g.Node[1].Output = nil }, "it has no output"},
		{
			"cycle", func(_ *pb.ModelProto, g *pb.GraphProto) { g.Node[0].Input[0] = "pool" },
			`the graph has a cycle through the tensors "conv" → "relu" → "pool" → "conv"`,
		},
		{
			"node that reads itself", func(_ *pb.ModelProto, g *pb.GraphProto) { g.Node[1].Input[0] = "relu" },
			`a cycle through the tensors "relu" → "relu"`,
		},
		{
			"tensor that nothing makes", func(_ *pb.ModelProto, g *pb.GraphProto) { g.Node[2].Input[0] = "lost" },
			`node "pool" (GlobalAveragePool) reads "lost", which nothing makes`,
		},
		{
			"output that nothing makes", func(_ *pb.ModelProto, g *pb.GraphProto) { g.Output[0].Name = proto.String("lost") },
			`nothing makes the output "lost"`,
		},
		{
			"tensor made twice", func(_ *pb.ModelProto, g *pb.GraphProto) { g.Node[1].Output[0] = "conv" },
			`node "relu" (Relu) makes "conv", which node "conv" (Conv) makes too`,
		},
		{
			"initialiser made by a node", func(_ *pb.ModelProto, g *pb.GraphProto) { g.Node[1].Output[0] = "weights" },
			`makes "weights", which an initialiser makes too`,
		},
		{
			"initialiser twice", func(_ *pb.ModelProto, g *pb.GraphProto) { g.Initializer = append(g.Initializer, g.Initializer[0]) },
			`the initialiser "weights" stands there twice`,
		},
		{"initialiser without a name", func(_ *pb.ModelProto, g *pb.GraphProto) { g.Initializer[0].Name = nil }, "an initialiser has no name"},
		{"input twice", func(_ *pb.ModelProto, g *pb.GraphProto) { g.Input = append(g.Input, g.Input[0]) }, `the input "image" is`},
		{"output twice", func(_ *pb.ModelProto, g *pb.GraphProto) { g.Output = append(g.Output, g.Output[0]) }, `the output "scores" is listed twice`},
		{
			"external data", func(_ *pb.ModelProto, g *pb.GraphProto) {
				g.Initializer[0].RawData, g.Initializer[0].DataLocation = nil, pb.TensorProto_EXTERNAL.Enum()
			}, `initialiser "weights": its values are in another file (external data)`,
		},
		{
			"sparse initialiser", func(_ *pb.ModelProto, g *pb.GraphProto) {
				g.SparseInitializer = []*pb.SparseTensorProto{{}}
			}, "1 sparse initialisers",
		},
		{
			"too few bytes", func(_ *pb.ModelProto, g *pb.GraphProto) { g.Initializer[0].RawData = make([]byte, 47) },
			`initialiser "weights": found 47 bytes of values, want 48 for FLOAT 4×3×1×1`,
		},
		{
			"too few values", func(_ *pb.ModelProto, g *pb.GraphProto) {
				g.Initializer[0].RawData, g.Initializer[0].FloatData = nil, make([]float32, 11)
			}, "found 11 values, want 12",
		},
		{
			"negative size", func(_ *pb.ModelProto, g *pb.GraphProto) { g.Initializer[0].Dims[1] = -3 },
			`initialiser "weights": its dimensions 4×?×1×1 are negative`,
		},
		{
			"sizes that overflow", func(_ *pb.ModelProto, g *pb.GraphProto) {
				g.Initializer[0].Dims = []int64{1 << 33, 1 << 31, 0}
			}, "make more than",
		},
		{
			"33 dimensions", func(_ *pb.ModelProto, g *pb.GraphProto) { g.Initializer[0].Dims = make([]int64, 33) },
			"33 dimensions, want at most 32",
		},
		{"unknown type", func(_ *pb.ModelProto, g *pb.GraphProto) { g.Initializer[0].DataType = proto.Int32(77) }, "its type 77 isn't supported"},
		{
			"damaged attribute", func(_ *pb.ModelProto, g *pb.GraphProto) {
				g.Node[0].Attribute = []*pb.AttributeProto{{Name: proto.String("value"), T: g.Initializer[0]}}
				g.Initializer[0].DataType = proto.Int32(77)
				g.Initializer = nil
			}, `node "conv" (Conv), attribute "value": its type 77`,
		},
		{
			"deep graphs", func(_ *pb.ModelProto, g *pb.GraphProto) {
				for range maxGraphs {
					inner := proto.Clone(g).(*pb.GraphProto)
					g.Node = []*pb.NodeProto{op("If", "scores", from("image"), &pb.AttributeProto{Name: proto.String("then_branch"), G: inner})}
				}
			}, "graphs stand more than 8 deep in one another",
		},
		{
			"deeper than is read", func(_ *pb.ModelProto, g *pb.GraphProto) {
				for range 20 {
					inner := proto.Clone(g).(*pb.GraphProto)
					g.Node = []*pb.NodeProto{op("If", "scores", from("image"), &pb.AttributeProto{Name: proto.String("then_branch"), G: inner})}
				}
			}, "nests messages more than 32 deep",
		},
		{
			"damaged graph inside", func(_ *pb.ModelProto, g *pb.GraphProto) {
				inner := &pb.GraphProto{Node: []*pb.NodeProto{op("Relu", "x", from("lost"))}, Output: g.Output}
				g.Node[3] = op("If", "scores", from("pool"), &pb.AttributeProto{Name: proto.String("then_branch"), G: inner})
			}, `reads "lost", which nothing makes`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := chain()
			c.change(p, p.Graph)
			m, err := Decode(marshal(t, p))
			if m != nil || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
}

func TestDecodeNamesWhatIsNoModel(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, bytes, want string }{
		{"empty", "", "the file is empty, want an ONNX model"},
		{"PNG", "\x89PNG\r\n\x1a\n\x00\x00", "found a PNG picture, want an ONNX model"},
		{"JPEG", "\xff\xd8\xff\xe0\x00\x10JFIF", "found a JPEG picture, want an ONNX model"},
		{"WebP", "RIFF\x10\x00\x00\x00WEBPVP8 ", "found a WebP picture"},
		{"Git LFS", "version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "found a Git LFS pointer"},
		{"archive", "PK\x03\x04\x14\x00", "found a ZIP archive"},
		{"TensorFlow Lite", "\x1c\x00\x00\x00TFL3\x00", "found a TensorFlow Lite model"},
		{"cache", "TRT-8503-EntropyCalibration2\nx: 3c010a14\n", "found a calibration cache"},
		{"text", "once upon a time", "not an ONNX model"},
		{"web page", "<!DOCTYPE html><html>", "found a web page"},
		{"zero bytes", strings.Repeat("\x00", 5000), "nothing but zero bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if m, err := Decode([]byte(c.bytes)); m != nil || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
}

// Wherever a model is cut, that is what the error says, or else that a part is
// missing.
func TestDecodeTellsThatAModelIsCutShort(t *testing.T) {
	t.Parallel()
	b := marshal(t, chain())
	for n := 1; n < len(b); n++ {
		_, err := Decode(b[:n])
		if err == nil {
			t.Fatalf("%d of %d bytes were taken for a model", n, len(b))
		}
		whole := strings.Contains(err.Error(), "no graph") || strings.Contains(err.Error(), "no version of the standard operators")
		if !errors.Is(err, errCutShort) && !whole {
			t.Errorf("%d of %d bytes: %v", n, len(b), err)
		}
	}
}

func TestDecodeBoundsWhatAModelGrowsToInMemory(t *testing.T) {
	t.Parallel()
	b := bytes.Repeat([]byte{0x0a, 0x00}, maxParts) // empty nodes
	p := append([]byte{0x08, 0x08, 0x3a, 0x80, 0x80, 0x80, 0x02}, b...)
	if _, err := Decode(p); err == nil || !strings.Contains(err.Error(), "more than 2097152 parts") {
		t.Error(err)
	}
}

func TestReadRefusesAFileThatIsTooLarge(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "model.onnx")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 3<<30); err != nil { // sparse: it takes no space
		t.Fatal(err)
	}
	_, err := Read(path)
	if err == nil || !strings.Contains(err.Error(), "3221225472 bytes are too large for a model, at most 1073741824 are taken") ||
		!strings.Contains(err.Error(), path) {
		t.Error(err)
	}
}

func TestReadNamesTheFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "model.onnx")
	if _, err := Read(path); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Error(err)
	}
	if _, err := Read(filepath.Dir(path)); err == nil || !strings.Contains(err.Error(), "is no regular file") {
		t.Error(err)
	}
	if err := os.WriteFile(path, []byte("\x89PNG\r\n\x1a\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path); err == nil || err.Error() != path+": found a PNG picture, want an ONNX model" {
		t.Error(err)
	}
}

func TestDecodeSortsNodes(t *testing.T) {
	t.Parallel()
	p := chain()
	slices.Reverse(p.Graph.Node)
	m := decode(t, p)
	var order []string
	for _, n := range m.proto.Graph.Node {
		order = append(order, n.GetName())
	}
	if want := []string{"conv", "relu", "pool", "scores"}; !slices.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
	run(t, write(t, m))
}

func TestOperatorsAreThoseOfONNX(t *testing.T) {
	t.Parallel()
	var want struct {
		Operators []string
		Opset, IR int64
	}
	python(t, &want, "operators.py")
	if want.Opset != maxOpset || want.IR != maxIR {
		t.Errorf("opset %d, IR %d are known, ONNX has %d and %d", maxOpset, maxIR, want.Opset, want.IR)
	}
	for _, name := range want.Operators {
		if !operators[name] {
			t.Errorf("%s isn't known", name)
		}
	}
	if len(want.Operators) != len(operators) {
		t.Errorf("%d operators are known, ONNX has %d", len(operators), len(want.Operators))
	}
}
