package daemon

import (
	"log/slog"
	"testing"

	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/release"
)

// What each start does before it can ask the store for the engine.
func BenchmarkPrepare(b *testing.B) {
	rel, err := release.Open(testenv.Demo("lite0"))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := prepareCPU(rel, PrepareOptions{}, false); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPrepareNoted(b *testing.B) {
	rel, err := release.Open(testenv.Demo("lite0"))
	if err != nil {
		b.Fatal(err)
	}
	s := EngineStore{Dir: b.TempDir(), Log: slog.New(slog.DiscardHandler)}
	for b.Loop() {
		if _, err := s.Prepare(cpu{}, rel, PrepareOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}
