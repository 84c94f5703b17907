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
