package daemon

import (
	"log/slog"
	"testing"
	"time"

	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/release"
)

// The whole pipeline against its bare engine, as `sightd bench` measures it;
// for profiles (-cpuprofile).
func BenchmarkPipeline(b *testing.B) {
	rel, err := release.Open(testenv.Demo("lite0"))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		r, err := Bench(b.Context(), rel, BenchOptions{
			Model: ModelOptions{
				BackendOptions: BackendOptions{Threads: 1, Log: slog.New(slog.DiscardHandler)}, Worker: testenv.Worker(b),
			},
			Source: "test:noise", Frames: 16, Round: 2 * time.Second, Rounds: 1,
		})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(r.Ratio, "ratio")
		b.ReportMetric(100*r.AddedCPU, "%-added-cpu")
		b.ReportMetric(r.Allocations, "allocs/frame")
	}
}

func TestBatchesAreMeasuredOverAsManyCameras(t *testing.T) {
	t.Parallel()
	rel, err := release.Open(testenv.Demo("lite0"))
	if err != nil {
		t.Fatal(err)
	}
	defer rel.Close()
	r, err := Bench(t.Context(), rel, BenchOptions{
		Model:  ModelOptions{BackendOptions: BackendOptions{Name: "ort", Threads: 1, Log: testLog(t)}, Worker: testenv.Worker(t)},
		Source: "test:noise", Frames: 3, Round: 300 * time.Millisecond, Rounds: 1, Batch: 2,
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.Batch != 2 || r.Lanes != 1 || r.EngineFPS <= 0 || r.PipelineFPS <= 0 {
		t.Errorf("%+v", r)
	}
}

func TestTheBareLoopKeepsAllLanesBusy(t *testing.T) {
	t.Parallel()
	_, set, b := handLanes(t, 2, nil)
	p := &Prepared{Batch: 2, Classes: set.classes}
	bare := &bareLoop{model: &Model{Prepared: p, Engine: set.engine}}
	frames := [][]byte{make([]byte, set.frame), make([]byte, set.frame), make([]byte, set.frame)}
	if err := bare.bind(frames); err != nil {
		t.Fatal(err)
	}
	s, err := bare.run(t.Context(), 20*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	bare.close()
	if len(bare.bindings) != 2 || s.frames == 0 || s.frames%2 != 0 || b.most != 2 || len(b.faults) > 0 {
		t.Errorf("%d runs, %d frames, %d at once, faults %q; want 2 runs in turn and both lanes busy", len(bare.bindings), s.frames, b.most, b.faults)
	}
}
