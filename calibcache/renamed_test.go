package calibcache_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightd/sightd/calibcache"
	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/onnx"
)

func TestRenamedTensorsOfAnotherExport(t *testing.T) {
	t.Parallel()
	fit := check(t, cacheOf(t, "image", "model/Conv1:0", "relu1", "model/Pool1:0", "conv2", "clip2", "zebra", "gap", "logits", "prob"),
		"testdata/net.onnx")
	got := fit.Renamed()
	for i := range got {
		if got[i].Similarity < 0.4 || got[i].Similarity >= 1 {
			t.Errorf("similarity %v", got[i].Similarity)
		}
		got[i].Similarity = 0
	}
	// The convolution isn't missing: its ReLU is folded.
	want := []calibcache.Renamed{{Name: "pool1", Nearest: "model/Pool1:0"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"pool1", "sum"}, fit.Missing); diff != "" {
		t.Error(diff)
	}
}

// The ways of other exporters with the demo's names: all tensors are found
// again, each once, whatever the order of the file.
func TestRenamedFindsWholeNetworksAgain(t *testing.T) {
	t.Parallel()
	c, err := calibcache.Read(testenv.Demo("lite0", "calibration.cache"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := onnx.Read(testenv.Demo("lite0", "model.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	for name, rename := range map[string]func(string) string{
		"PyTorch's":           func(s string) string { return "/features/" + s + "/Conv_output_0" },
		"TensorFlow's":        func(s string) string { return "StatefulPartitionedCall/model/" + s + ":0" },
		"capitals and points": func(s string) string { return strings.ToUpper(strings.ReplaceAll(s, "/", ".")) },
	} {
		for _, shuffled := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				other := &calibcache.Cache{Header: c.Header}
				for _, e := range c.Entries {
					other.Entries = append(other.Entries, calibcache.EntryOf(rename(e.Name), e.Scale()))
				}
				if shuffled {
					rand.New(rand.NewPCG(1, 2)).Shuffle(len(other.Entries), func(i, j int) {
						other.Entries[i], other.Entries[j] = other.Entries[j], other.Entries[i]
					})
				}
				fit, err := calibcache.Check(other, m)
				if err != nil {
					t.Fatal(err)
				}
				right := 0
				for _, r := range fit.Renamed() {
					if r.Nearest == rename(r.Name) {
						right++
					} else {
						t.Logf("%s taken for %s", r.Nearest, r.Name)
					}
				}
				if right != len(fit.Missing) || right < 80 {
					t.Errorf("%d of %d are right", right, len(fit.Missing))
				}
			})
		}
	}
}

func TestRenumberedTensorsGoByOrder(t *testing.T) {
	t.Parallel()
	fit := &calibcache.Fit{
		Missing:  []string{"onnx::Conv_121", "onnx::Conv_124", "onnx::Conv_127"},
		Leftover: []string{"onnx::Conv_501", "onnx::Conv_504", "onnx::Conv_507"},
	}
	for i, r := range fit.Renamed() {
		if r.Name != fit.Missing[i] || r.Nearest != fit.Leftover[i] {
			t.Errorf("%+v", r)
		}
	}
}

func TestRenamedPairsNothingWithoutReason(t *testing.T) {
	t.Parallel()
	for name, fit := range map[string]*calibcache.Fit{
		"unlike names":       {Missing: []string{"pool1"}, Leftover: []string{"fire2"}},
		"punctuation":        {Missing: []string{"::"}, Leftover: []string{"//", "::"}},
		"nothing left over":  {Missing: []string{"pool1"}},
		"more than is sound": {Missing: []string{strings.Repeat("a", 20_000)}, Leftover: []string{strings.Repeat("a", 20_000)}},
	} {
		if got := fit.Renamed(); got != nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func FuzzRenamed(f *testing.F) {
	f.Add("conv1\npool1", "model/conv1:0\nmodel/pool1:0")
	f.Add("\xff\n1", "İ\n\x00")
	f.Fuzz(func(t *testing.T, missing, leftover string) {
		fit := &calibcache.Fit{Missing: strings.Split(missing, "\n"), Leftover: strings.Split(leftover, "\n")}
		if len(missing)+len(leftover) > 1000 {
			return
		}
		taken := 0
		for _, r := range fit.Renamed() {
			if !(r.Similarity >= 0.4 && r.Similarity <= 1.000001) {
				t.Errorf("similarity %v", r.Similarity)
			}
			taken++
		}
		if taken > min(len(fit.Missing), len(fit.Leftover)) {
			t.Errorf("%d pairs of %d and %d", taken, len(fit.Missing), len(fit.Leftover))
		}
	})
}
