package calibcache_test

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sightd/sightd/calibcache"
	"github.com/sightd/sightd/internal/testenv"
)

func parse(t *testing.T, file string) *calibcache.Cache {
	t.Helper()
	c, err := calibcache.Parse([]byte(file))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCompare(t *testing.T) {
	t.Parallel()
	// 3f800000 is 1, 40000000 2, 3e800000 a quarter.
	left := parse(t, "TRT-8501-EntropyCalibration2\nsame: 3f800000\ndoubled: 3f800000\nquartered: 3f800000\ngone: 3f800000\n"+
		"from zero: 0\nnan: 7fc00000\nto nan: 3f800000\nsign: 3f800000\n")
	right := parse(t, "TRT-100300-MinMaxCalibration\nnew: 3f800000\nquartered: 3e800000\nsame: 3F800000\ndoubled: 40000000\n"+
		"from zero: 3f800000\nnan: 7fc00000\nto nan: 7fc00000\nsign: bf800000")
	nan, inf := math.NaN(), math.Inf(1)
	want := &calibcache.Difference{
		Left:  calibcache.Header{Number: "8501", Algorithm: calibcache.Entropy2},
		Right: calibcache.Header{Number: "100300", Algorithm: calibcache.MinMax},
		Tensors: []calibcache.Change{
			{Name: "from zero", Left: 0, Right: 1, Ratio: inf},
			{Name: "to nan", Left: 1, Right: float32(nan), Ratio: nan},
			{Name: "sign", Left: 1, Right: -1, Ratio: -1},
			{Name: "quartered", Left: 1, Right: 0.25, Ratio: 0.25},
			{Name: "doubled", Left: 1, Right: 2, Ratio: 2},
			{Name: "same", Left: 1, Right: 1, Ratio: 1},
			{Name: "nan", Left: float32(nan), Right: float32(nan), Ratio: 1},
		},
		Identical: 2,
		OnlyLeft:  []string{"gone"}, OnlyRight: []string{"new"},
	}
	got := calibcache.Compare(left, right)
	if diff := cmp.Diff(want, got, cmpopts.EquateNaNs()); diff != "" {
		t.Error(diff)
	}
	if got.Same() {
		t.Error("they aren't the same")
	}
}

func TestSame(t *testing.T) {
	t.Parallel()
	one := parse(t, small)
	for file, want := range map[string]bool{
		small: true,
		"TRT-8501-EntropyCalibration2\nzeros: 00\nconv: 3d000000\nflat: 400000\ninput_1:0: 3C010A14": true, // another order, other digits
		"TRT-8501-MinMaxCalibration\ninput_1:0: 3c010a14\nconv: 3D000000\nflat: 00400000\nzeros: 0":  false,
		"TRT-8501-EntropyCalibration2\ninput_1:0: 3c010a14\nconv: 3D000000\nflat: 00400000":          false,
		small + "more: 1\n": false,
		"TRT-8501-EntropyCalibration2\ninput_1:0: 3c010a14\nconv: 3D000000\nflat: 00400001\nzeros: 0": false,
	} {
		if got := calibcache.Compare(one, parse(t, file)).Same(); got != want {
			t.Errorf("%q: %v, want %v", file, got, want)
		}
	}
}

func TestRealCachesAreTheSameAsThemselves(t *testing.T) {
	t.Parallel()
	for _, file := range realCaches(t) {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		c := parse(t, string(b))
		d := calibcache.Compare(c, parse(t, string(b)))
		if !d.Same() || d.Identical != len(c.Entries) {
			t.Errorf("%s: %+v", file, d)
		}
	}
}

// realCaches are the 43 files of the measuring material.
func realCaches(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(testenv.Material(t, "caches"), "*"))
	if err != nil || len(files) != 43 {
		t.Fatalf("found %d caches, %v; want 43", len(files), err)
	}
	return files
}
