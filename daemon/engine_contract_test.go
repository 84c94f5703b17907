package daemon

import (
	"log/slog"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/ort"
	"github.com/sightd/sightd/release"
)

// What every engine does, and the runner relies on.
func TestEnginesKeepTheirContract(t *testing.T) {
	t.Parallel()
	if err := ort.Open(""); err != nil {
		t.Fatal(err)
	}
	for _, b := range []Backend{cpu{options: ort.Options{Threads: 1}}, &scripted{name: "scripted", lanes: 2}} {
		for _, batch := range []int{1, 2} {
			t.Run(b.Name(), func(t *testing.T) {
				t.Parallel()
				rel, err := release.Open(testenv.Demo("lite0"))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { rel.Close() })
				store := EngineStore{Dir: filepath.Join(t.TempDir(), "engines"), Log: slog.New(slog.DiscardHandler)}
				p, err := store.Prepare(b, rel, PrepareOptions{Batch: batch})
				if err != nil {
					t.Fatal(err)
				}
				e, err := store.Open(t.Context(), b, p, nil)
				if err != nil {
					t.Fatal(err)
				}
				keepsContract(t, e, p)
				if b, ok := b.(*scripted); ok && len(b.faults) > 0 {
					t.Errorf("%q", b.faults)
				}
			})
		}
	}
}

func keepsContract(t *testing.T, e Engine, p *Prepared) {
	t.Helper()
	size := p.Width * p.Height * 3
	picture := func(n int, shade byte) []byte {
		b := make([]byte, n*size)
		for i := range b {
			b[i] = shade
		}
		t.Cleanup(pin(b))
		return b
	}
	if _, err := e.Bind(picture(1, 0)[:size-1], 1); err == nil {
		t.Error("pixels too few were bound")
	}
	if e.Lanes() < 1 {
		t.Fatalf("%d lanes", e.Lanes())
	}
	var bindings []Binding
	for i := range e.Lanes() {
		b, err := e.Bind(picture(p.Batch, byte(40*(i+1))), p.Batch)
		if err != nil {
			t.Fatal(err)
		}
		bindings = append(bindings, b)
	}
	// One after the other, then as many at once as there are lanes: the same answers.
	var alone [][]float32
	for _, b := range bindings {
		if err := infer(e, b); err != nil {
			t.Fatal(err)
		}
		if len(b.Scores()) != p.Batch*p.Classes {
			t.Fatalf("%d scores, want %d×%d", len(b.Scores()), p.Batch, p.Classes)
		}
		var sum float64
		for _, v := range b.Scores() {
			sum += float64(v)
		}
		if math.Abs(sum-float64(p.Batch)) > 0.01 {
			t.Errorf("the scores add up to %v, want %d", sum, p.Batch)
		}
		alone = append(alone, slices.Clone(b.Scores()))
	}
	for range 3 {
		for _, b := range bindings {
			if err := e.Start(b); err != nil {
				t.Fatal(err)
			}
		}
		for i, b := range bindings {
			if err := e.Wait(b); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(b.Scores(), alone[i]) {
				t.Errorf("binding %d scores otherwise when others run beside it", i)
			}
		}
	}
	for _, b := range bindings {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}
