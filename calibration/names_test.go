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

// The files in testdata/tensorrt-8.6.1 are what TensorRT 8.6.1's own entropy
// calibrator wrote for these models, on an H100 and with 32 images: the whole
// cache for the demo's model, the tensors' names for the others.
const recordedCaches = "testdata/tensorrt-8.6.1"

// ownNames are what Study's caches name for a model.
func ownNames(t *testing.T, m *onnx.Model) []string {
	t.Helper()
	activations, err := m.Activations()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, a := range activations {
		names = append(names, a.Names()...)
	}
	return names
}

// madeByParser are the tensors that TensorRT's ONNX parser adds: a Gemm's inside,
// which it builds of smaller layers, constants, and the result of a Softmax, whose
// own name goes to a layer behind it.
var madeByParser = regexp.MustCompile(`^\(Unnamed Layer\* \d+\) \[(Constant|Matrix Multiply|Shuffle|Fully Connected|Softmax)\]_output$`)

func TestCachesNameWhatTensorRTNames(t *testing.T) {
	t.Parallel()
	for name, only := range map[string]struct{ theirs, ours []string }{
		"cifar10_resnet20_fp32":  {},
		"lenet_mnist_nvdla_fp32": {},
		// The weights of the last layer are reshaped in the graph.
		"mnist": {theirs: []string{"Parameter193_reshape1"}},
		// The results of the last Softmax: TensorRT has a layer of its own there.
		"mobilenet_v1_0.25_224_fp32": {ours: []string{"n30"}},
		"mobilenet_v2_1.0_224_deq":   {ours: []string{"n65"}},
		// TensorRT has one tensor before and behind a Dropout.
		"squeezenet1.1_fp32": {ours: []string{"fire9/concat_1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, err := onnx.Read(testenv.Material(t, "models", name+".onnx"))
			if err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(filepath.Join(recordedCaches, name+".names"))
			if err != nil {
				t.Fatal(err)
			}
			compareNames(t, ownNames(t, m), strings.Split(strings.TrimSpace(string(text)), "\n"), only.ours, only.theirs)
		})
	}
}

func compareNames(t *testing.T, ours, theirs, onlyOurs, onlyTheirs []string) {
	t.Helper()
	var missing, more []string
	for _, n := range theirs {
		if !slices.Contains(ours, n) && !madeByParser.MatchString(n) {
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

// The demo's model lies in the repository, and with it TensorRT's whole cache.
func TestTensorRTsOwnCacheFitsTheDemosModel(t *testing.T) {
	t.Parallel()
	c, err := calibcache.Read(filepath.Join(recordedCaches, "lite0.cache"))
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
	compareNames(t, ownNames(t, m), theirs, nil, nil)
	fit, err := calibcache.Check(c, m)
	if err != nil {
		t.Fatal(err)
	}
	if fit.Coverage != 1 || len(fit.Leftover) != 0 {
		t.Errorf("coverage %v, left over %v", fit.Coverage, fit.Leftover)
	}
}
