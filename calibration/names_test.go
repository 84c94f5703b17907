package calibration

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightd/sightd/calibcache"
	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/onnx"
)

// The files in testdata/tensorrt are what the entropy calibrators of TensorRT 8.6.1
// and 10.6.0 wrote for these models, on an H100 and with 32 images: the whole cache
// for the demo's model, the tensors' names for the others.
func recordedCache(version, name string) string {
	return filepath.Join("testdata", "tensorrt", version, name)
}

var versions = []string{"8.6", "10.6"}

// ownNames are what Study's caches name for a model, and the nodes that make it.
func ownNames(t *testing.T, m *onnx.Model) (names, nodes []string) {
	t.Helper()
	activations, err := m.Activations()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range activations {
		names, nodes = append(names, a.Names()...), append(nodes, a.Producer)
	}
	return names, nodes
}

// byNumber are the tensors that TensorRT's ONNX parser adds and counts: a Gemm's
// inside, which it builds of smaller layers, constants and what brings them to a
// shape, and the result of a Softmax, whose own name goes to a layer behind it.
var byNumber = regexp.MustCompile(`^\(Unnamed Layer\* \d+\) \[(Constant|Matrix Multiply|Shuffle|Fully Connected|Softmax)\]_output$`)

// madeByParser says whether a tensor is one that the parser adds. From 10 on most
// have names, of the initialiser or of the node that they belong to.
func madeByParser(name string, m *onnx.Model, nodes []string) bool {
	if byNumber.MatchString(name) || strings.HasPrefix(name, "ONNXTRT_") {
		return true
	}
	of, ok := strings.CutSuffix(name, "_output")
	of = strings.TrimPrefix(of, "node_of_")
	return ok && (m.Tensors()[of] || slices.Contains(nodes, of))
}

func TestCachesNameWhatTensorRTNames(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		for name, only := range map[string]struct{ theirs, ours []string }{
			"cifar10_resnet20_fp32":  {},
			"lenet_mnist_nvdla_fp32": {},
			// The weights of the last layer are reshaped in the graph.
			"mnist": {theirs: []string{"Parameter193_reshape1"}},
			// The results of the last Softmax: TensorRT 8.6 leaves them out.
			"mobilenet_v1_0.25_224_fp32": {ours: onlyIn(version, "8.6", "n30")},
			"mobilenet_v2_1.0_224_deq":   {ours: onlyIn(version, "8.6", "n65")},
			// TensorRT 8.6 has one tensor before and behind a Dropout with two outputs.
			"squeezenet1.1_fp32": {ours: onlyIn(version, "8.6", "fire9/concat_1")},
		} {
			t.Run(version+"/"+name, func(t *testing.T) {
				t.Parallel()
				m, err := onnx.Read(testenv.Material(t, "models", name+".onnx"))
				if err != nil {
					t.Fatal(err)
				}
				text, err := os.ReadFile(recordedCache(version, name+".names"))
				if err != nil {
					t.Fatal(err)
				}
				names := strings.Split(strings.TrimSpace(string(text)), "\n")
				compareNames(t, m, names, only.ours, only.theirs)
				c := &calibcache.Cache{Header: calibcache.Header{Number: "100600", Algorithm: calibcache.Entropy2}}
				for _, n := range names {
					c.Entries = append(c.Entries, calibcache.EntryOf(n, 0.01))
				}
				fits(t, c, m)
			})
		}
	}
}

func onlyIn(version, wanted string, names ...string) []string {
	if version != wanted {
		return nil
	}
	return names
}

func compareNames(t *testing.T, m *onnx.Model, theirs, onlyOurs, onlyTheirs []string) {
	t.Helper()
	ours, nodes := ownNames(t, m)
	var missing, more []string
	for _, n := range theirs {
		if !slices.Contains(ours, n) && !madeByParser(n, m, nodes) {
			missing = append(missing, n)
		}
	}
	for _, n := range ours {
		if !slices.Contains(theirs, n) {
			more = append(more, n)
		}
	}
	if diff := cmp.Diff(onlyTheirs, missing); diff != "" {
		t.Errorf("TensorRT alone names:\n%s", diff)
	}
	if diff := cmp.Diff(onlyOurs, more); diff != "" {
		t.Errorf("we alone name:\n%s", diff)
	}
}

// The demo's model lies in the repository, and with it TensorRT's whole caches.
func TestTensorRTsOwnCacheFitsTheDemosModel(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		c, err := calibcache.Read(recordedCache(version, "lite0.cache"))
		if err != nil {
			t.Fatal(err)
		}
		m, err := onnx.Read(testenv.Demo("lite0", "model.onnx"))
		if err != nil {
			t.Fatal(err)
		}
		var theirs []string
		for _, e := range c.Entries {
			theirs = append(theirs, e.Name)
		}
		compareNames(t, m, theirs, nil, nil)
		fits(t, c, m)
	}
}

// fits holds a cache to cover the model, with nothing left over.
func fits(t *testing.T, c *calibcache.Cache, m *onnx.Model) {
	t.Helper()
	fit, err := calibcache.Check(c, m)
	if err != nil {
		t.Fatal(err)
	}
	if fit.Coverage != 1 || len(fit.Leftover) != 0 {
		t.Errorf("coverage %v, missing %v, left over %v", fit.Coverage, fit.Missing, fit.Leftover)
	}
}
