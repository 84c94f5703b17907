package daemon

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sightd/sightd/dla"
	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/release"
)

// pieces is a back end of a machine with a DLA core, on which every network falls
// into two pieces.
type pieces struct {
	builder
	built []string // by device
}

func (b *pieces) Prepare(_ *release.Release, o PrepareOptions) (*Prepared, error) {
	p := preparedOf("graph")
	p.Geometry.Width, p.Geometry.Height, p.Classes = 8, 8, 1
	p.TensorRT = &TensorRTPlan{Wish: *o.Placement}
	if o.Placement.Device == "dla" {
		p.TensorRT.Cores = []int{0}
	}
	return p, nil
}

func (b *pieces) Build(_ context.Context, p *Prepared, dir string, _ func(BuildProgress)) (*BuildReport, error) {
	b.built = append(b.built, p.Device())
	r := &BuildReport{}
	if p.Device() == "dla" {
		r.DLA = dla.Inspect([]dla.Layer{
			{Name: "{ForeignNode[a]}", Device: "dla"}, {Name: "norm", Type: "PluginV2", Device: "gpu"}, {Name: "{ForeignNode[b]}", Device: "dla"},
		}, nil)
	}
	return r, os.WriteFile(filepath.Join(dir, engineFile), []byte("engine"), 0o644)
}

// opened is the device of the engine that a wish comes to.
func (b *pieces) opened(t *testing.T, s EngineStore, wish dla.Wish) (*Prepared, error) {
	t.Helper()
	rel, err := release.Open(testenv.Demo("lite0"))
	if err != nil {
		t.Fatal(err)
	}
	defer rel.Close()
	for again := false; ; again = true {
		p, err := s.Prepare(b, rel, PrepareOptions{Placement: &wish})
		if err != nil {
			t.Fatal(err)
		}
		e, err := s.Open(t.Context(), b, p, nil)
		if goesToGPU(err) && !again {
			continue
		}
		if err == nil {
			e.Close()
		}
		return p, err
	}
}

func TestTheGPUTakesThePlaceOfADLAEngineBeyondItsLimits(t *testing.T) {
	t.Parallel()
	s, b := testStore(t), &pieces{}
	wish := dla.Wish{Device: "dla", Fallback: true, MaxPieces: 1, MaxGPUShare: 1}
	for range 2 {
		p, err := b.opened(t, s, wish)
		if err != nil || p.Device() != "gpu" {
			t.Fatalf("it runs on %q: %v", p.Device(), err)
		}
		for _, text := range []string{p.Note, p.TensorRT.Reason} {
			if !strings.Contains(text, "the GPU instead of DLA: the network is in 2 pieces on DLA, placement.max_pieces is 1: on the GPU are \"norm\"") {
				t.Errorf("what is said of it: %q", text)
			}
		}
	}
	if len(b.built) != 2 || b.built[0] != "dla" || b.built[1] != "gpu" {
		t.Errorf("built for %q, wanted DLA and the GPU once", b.built)
	}
	if why, ok := readFailure(s.path(b, "graph")); ok {
		t.Errorf("it is noted as a failure: %+v", why)
	}
	wish.MaxPieces = 2
	if p, err := b.opened(t, s, wish); err != nil || p.Device() != "dla" || len(b.built) != 2 {
		t.Errorf("with another limit it runs on %q, built for %q: %v", p.Device(), b.built, err)
	}
}

func TestADLAEngineBeyondItsLimitsIsAnErrorWithoutFallback(t *testing.T) {
	t.Parallel()
	s, b := testStore(t), &pieces{}
	for range 2 {
		_, err := b.opened(t, s, dla.Wish{Device: "dla", MaxGPUShare: .2})
		var over *dla.LimitError
		if !errors.As(err, &over) || goesToGPU(err) || !final(err) || !strings.Contains(err.Error(), "raise max_gpu_share") {
			t.Errorf("error %v", err)
		}
	}
	if len(b.built) != 1 {
		t.Errorf("built for %q, wanted DLA once", b.built)
	}
}
