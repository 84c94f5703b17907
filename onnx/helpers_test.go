package onnx

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/onnx/internal/pb"
)

// python runs a script of testdata and decodes the JSON that it prints.
func python(t *testing.T, result any, script string, args ...string) {
	t.Helper()
	cmd := exec.Command(testenv.Python(t), append([]string{filepath.Join("testdata", script)}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, stderr.Bytes())
	}
	if err := json.Unmarshal(out, result); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// materialModels are the paths of the measuring material's models, if any.
func materialModels() []string {
	paths, _ := filepath.Glob(filepath.Join(testenv.Root(), "..", "shared", "material", "models", "*.onnx"))
	return paths
}

// demoModel is the path of the demo's model.
func demoModel() string { return testenv.Demo("lite0", "model.onnx") }

// write stores m in a file of the test's own.
func write(t *testing.T, m *Model) string {
	t.Helper()
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "model.onnx")
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// network builds a ModelProto of opset 13 by hand.
func network(inputs, outputs []*pb.ValueInfoProto, initializers []*pb.TensorProto, nodes ...*pb.NodeProto) *pb.ModelProto {
	return &pb.ModelProto{
		IrVersion:   proto.Int64(8),
		OpsetImport: []*pb.OperatorSetIdProto{{Domain: proto.String(""), Version: proto.Int64(13)}},
		Graph: &pb.GraphProto{
			Name: proto.String("test"), Input: inputs, Output: outputs, Initializer: initializers, Node: nodes,
		},
	}
}

// tensor declares an input or output; a size of -1 is the dynamic batch N.
func tensor(name string, typ pb.TensorProto_DataType, sizes ...int64) *pb.ValueInfoProto {
	var dims []dim
	for _, n := range sizes {
		d := fixed(n)
		if n < 0 {
			d = dim{n: -1, sym: "N"}
		}
		dims = append(dims, d)
	}
	return valueInfo(name, typ, dims)
}

// values is a list of inputs or outputs.
func values(v ...*pb.ValueInfoProto) []*pb.ValueInfoProto { return v }

// tensors is a list of initialisers.
func tensors(t ...*pb.TensorProto) []*pb.TensorProto { return t }

const (
	float   = pb.TensorProto_FLOAT
	float16 = pb.TensorProto_FLOAT16
)

// op is a node called as the one tensor that it makes.
func op(typ, output string, inputs []string, attrs ...*pb.AttributeProto) *pb.NodeProto {
	return newNode(typ, output, inputs, []string{output}, attrs...)
}

// from is a list of inputs.
func from(names ...string) []string { return names }

// marshal serialises p as it is.
func marshal(t testing.TB, p *pb.ModelProto) []byte {
	t.Helper()
	b, err := proto.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// decode makes a Model of p.
func decode(t testing.TB, p *pb.ModelProto) *Model {
	t.Helper()
	m, err := Decode(marshal(t, p))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// ran is what ONNX Runtime says of a model and what the model gave.
type ran struct {
	Input    string
	Batch    int64 // 0: dynamic
	Output   string
	Outputs  int
	Declared []int64 // the output's shape, -1 where dynamic
	Shape    []int64
	Values   []float64 // for four images that are always the same
}

// run runs models with ONNX Runtime.
func run(t *testing.T, paths ...string) []ran {
	t.Helper()
	var result []ran
	python(t, &result, "run.py", paths...)
	return result
}

// near fails where values differ by more than a share of the largest.
func near(t *testing.T, got, want []float64, share float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d values, want %d", len(got), len(want))
	}
	largest, difference := 0.0, 0.0
	for i := range want {
		largest = max(largest, math.Abs(want[i]))
		difference = max(difference, math.Abs(got[i]-want[i]))
	}
	if difference > share*largest || math.IsNaN(difference) {
		t.Errorf("values differ by %g, of %g", difference, largest)
	}
}
