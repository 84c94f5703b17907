package daemon

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/ort"
	"github.com/sightd/sightd/release"
)

// demoAnswers are what the demo's model says of its photographs.
const demoAnswers = "coffee.png\t967\ncamera.png\t872\nchina.jpg\t698\nrocket.jpg\t657\n"

// goldenRelease is a packed release of the demo's model with its photographs as
// golden images, these lines in the index, and the lines of its model.yaml changed
// as old, new, …
func goldenRelease(t *testing.T, index string, change ...string) *release.Release {
	t.Helper()
	dir := t.TempDir()
	golden := filepath.Join(dir, "golden")
	if err := os.CopyFS(golden, os.DirFS(testenv.Demo("photos"))); err != nil {
		t.Fatal(err)
	}
	if index != "" {
		putFile(t, filepath.Join(golden, release.GoldenIndex), "file\tclass\n"+index)
	}
	b, err := os.ReadFile(testenv.Demo("lite0", "model.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"model.onnx", "calibration.cache", "labels.txt"} {
		change = append(change, ": "+f, ": "+testenv.Demo("lite0", f))
	}
	spec := filepath.Join(dir, "model.yaml")
	putFile(t, spec, strings.NewReplacer(change...).Replace(string(b))+"golden: golden\n")
	out := filepath.Join(dir, "packed")
	if _, err := release.Pack(spec, out); err != nil {
		t.Fatal(err)
	}
	rel, err := release.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rel.Close() })
	return rel
}

func putFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// engineOf opens a warm engine of the release's model.
func engineOf(t *testing.T, b Backend, rel *release.Release, batch int) (Engine, *Prepared) {
	t.Helper()
	if err := ort.Open(""); err != nil {
		t.Fatal(err)
	}
	store := EngineStore{Dir: filepath.Join(t.TempDir(), "engines"), Log: testLog(t)}
	p, err := store.Prepare(b, rel, PrepareOptions{Batch: batch})
	if err != nil {
		t.Fatal(err)
	}
	e, err := store.Open(t.Context(), b, p, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	if err := warm(e, p); err != nil {
		t.Fatal(err)
	}
	return e, p
}

// odd is an engine whose scores are what say makes of them, the first call being 1.
type odd struct {
	Engine
	say   func(n int, scores []float32) []float32
	calls int
	bound int // bindings that are open
}

type oddBinding struct {
	Binding
	engine *odd
	scores []float32
}

func (e *odd) Bind(pixels []byte, n int) (Binding, error) {
	b, err := e.Engine.Bind(pixels, n)
	if err != nil {
		return nil, err
	}
	e.bound++
	return &oddBinding{b, e, nil}, nil
}

func (e *odd) Start(b Binding) error { return e.Engine.Start(b.(*oddBinding).Binding) }

func (e *odd) Wait(b Binding) error {
	o := b.(*oddBinding)
	if err := e.Engine.Wait(o.Binding); err != nil {
		return err
	}
	e.calls++
	o.scores = e.say(e.calls, slices.Clone(o.Binding.Scores()))
	return nil
}

func (b *oddBinding) Scores() []float32 { return b.scores }

func (b *oddBinding) Close() error {
	b.engine.bound--
	return b.Binding.Close()
}

func wantProofFailed(t *testing.T, err error, parts ...string) {
	t.Helper()
	if release.CodeOf(err) != release.ProofFailed {
		t.Fatalf("found %v (%q), wanted a rejection as %s", err, release.CodeOf(err), release.ProofFailed)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v\nlacks %q", err, part)
		}
	}
}

func TestGoldenImagesProveAnEngineThatAnswersThem(t *testing.T) {
	t.Parallel()
	rel := goldenRelease(t, demoAnswers)
	for _, batch := range []int{1, 2} {
		t.Run(fmt.Sprint("batch ", batch), func(t *testing.T) {
			t.Parallel()
			e, p := engineOf(t, cpu{options: ort.Options{Threads: 1}}, rel, batch)
			r, err := proveGolden(t.Context(), e, p, rel, testenv.Worker(t), testLog(t))
			if err != nil || r.Images != 4 || r.Right != 4 || len(r.Latencies) != 4 || r.Wrong != "" {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}

func TestAReleaseWithoutGoldenImagesIsNotAskedForAny(t *testing.T) {
	t.Parallel()
	rel, err := release.Open(testenv.Demo("lite0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rel.Close() })
	r, err := proveGolden(t.Context(), nil, nil, rel, "no worker is started", testLog(t))
	if err != nil || r.Images != 0 || len(r.Latencies) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestWrongAnswersBeyondTheShareAreRejected(t *testing.T) {
	t.Parallel()
	wrong := strings.Replace(demoAnswers, "camera.png\t872", "camera.png\t1", 1)
	lenient := goldenRelease(t, wrong, "release: 1", "release: 1\nproof: {golden: 0.75}")
	strict := goldenRelease(t, wrong)
	e, p := engineOf(t, cpu{options: ort.Options{Threads: 1}}, strict, 1)
	const first = "file camera.png: found tripod, wanted goldfish"
	r, err := proveGolden(t.Context(), e, p, strict, testenv.Worker(t), testLog(t))
	wantProofFailed(t, err, "3 of 4 golden images, 75.0 %, wanted 95 %; first wrong: "+first)
	if r.Images != 4 || r.Right != 3 || r.Wrong != first {
		t.Errorf("%+v", r)
	}
	if r, err := proveGolden(t.Context(), e, p, lenient, testenv.Worker(t), testLog(t)); err != nil || r.Right != 3 {
		t.Errorf("three of four are wanted: %+v, %v", r, err)
	}
}

func TestAnEngineThatAnswersNonsenseIsRejected(t *testing.T) {
	t.Parallel()
	// Enough is right if none has to be.
	rel := goldenRelease(t, demoAnswers, "release: 1", "release: 1\nproof: {golden: 0}")
	prepared := map[int]*Prepared{} // by batch
	for _, batch := range []int{1, 3} {
		p, err := (&scripted{name: "scripted"}).Prepare(rel, PrepareOptions{Batch: batch})
		if err != nil {
			t.Fatal(err)
		}
		prepared[batch] = p
	}
	set := func(i int, v float32) func(int, []float32) []float32 {
		return func(n int, s []float32) []float32 {
			if n > 2 { // not for the warming up, nor the first image
				s[i] = v
			}
			return s
		}
	}
	for name, c := range map[string]struct {
		say  func(n int, scores []float32) []float32
		want string
	}{
		"NaN":             {set(5, float32(math.NaN())), "camera.png: the engine's scores hold NaN or infinity"},
		"infinity":        {set(999, float32(math.Inf(1))), "camera.png: the engine's scores hold NaN or infinity"},
		"constant":        {func(_ int, s []float32) []float32 { clear(s); s[967] = 1; return s }, "the engine's scores are the same for all 4, which differ"},
		"a class too few": {func(_ int, s []float32) []float32 { return s[1:] }, "the engine gave 999 scores, wanted 1000"},
		"none":            {func(int, []float32) []float32 { return nil }, "the engine gave 0 scores, wanted 1000"},
	} {
		for batch, p := range prepared {
			t.Run(fmt.Sprint(name, " batch ", batch), func(t *testing.T) {
				t.Parallel()
				b := &scripted{name: "scripted", lanes: 3}
				inner, err := b.Load(p, nil)
				if err != nil {
					t.Fatal(err)
				}
				e := &odd{Engine: inner, say: c.say, calls: 1}
				_, err = proveGolden(t.Context(), e, p, rel, testenv.Worker(t), testLog(t))
				wantProofFailed(t, err, c.want)
				if e.bound != 0 || b.running() != 0 || len(b.faults) > 0 {
					t.Errorf("it left %d bindings, %d runs, %q", e.bound, b.running(), b.faults)
				}
			})
		}
	}
}

// One and the same picture twice is no reason to expect two answers.
func TestTheSameAnswerToTheSameImageIsNotConstant(t *testing.T) {
	t.Parallel()
	rel := goldenRelease(t, "coffee.png\t967\n")
	dir := filepath.Join(t.TempDir(), "golden")
	if err := os.CopyFS(dir, os.DirFS(rel.Golden)); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "coffee.png"))
	if err != nil {
		t.Fatal(err)
	}
	putFile(t, filepath.Join(dir, "again.png"), string(b))
	putFile(t, filepath.Join(dir, release.GoldenIndex), "file\tclass\ncoffee.png\t967\nagain.png\t967\n")
	twice, err := release.Open(testenv.Demo("lite0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { twice.Close() })
	if err := twice.TakeGolden(dir); err != nil {
		t.Fatal(err)
	}
	e, p := engineOf(t, cpu{options: ort.Options{Threads: 1}}, twice, 1)
	if r, err := proveGolden(t.Context(), e, p, twice, testenv.Worker(t), testLog(t)); err != nil || r.Right != 2 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestAReleaseWhoseEngineFailsIsRefused(t *testing.T) {
	t.Parallel()
	rel := goldenRelease(t, demoAnswers)
	b := &scripted{name: "scripted", lanes: 1}
	e, p := engineOf(t, b, rel, 1)
	b.fail(errScripted)
	_, err := proveGolden(t.Context(), e, p, rel, testenv.Worker(t), testLog(t))
	if !errors.Is(err, errScripted) || release.CodeOf(err) != release.ProofFailed || !strings.Contains(err.Error(), "coffee.png: engine: ") {
		t.Errorf("%v (%q)", err, release.CodeOf(err))
	}
}

func TestAGoldenImageThatIsNoneIsTheReleasesFault(t *testing.T) {
	t.Parallel()
	rel := goldenRelease(t, demoAnswers)
	e, p := engineOf(t, &scripted{name: "scripted", lanes: 1}, rel, 1)
	at := filepath.Join(rel.Golden, "china.jpg")

	// Changed since it was verified: the disk's fault.
	putFile(t, at, "no picture")
	_, err := proveGolden(t.Context(), e, p, rel, testenv.Worker(t), testLog(t))
	if err == nil || release.CodeOf(err) != "" || !strings.Contains(err.Error(), "china.jpg: is not an image") || !strings.Contains(err.Error(), "it isn't any more what was verified") {
		t.Errorf("%v (%q)", err, release.CodeOf(err))
	}

	// Packed so: the release's.
	taken, err := release.Open(testenv.Demo("lite0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	if err := taken.TakeGolden(rel.Golden); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "packed")
	if _, err := taken.Pack(out); err != nil {
		t.Fatal(err)
	}
	bad, err := release.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bad.Close() })
	_, err = proveGolden(t.Context(), e, p, bad, testenv.Worker(t), testLog(t))
	wantProofFailed(t, err, "china.jpg: is not an image")
}

func TestAGoldenClassThatTheModelLacksIsRejected(t *testing.T) {
	t.Parallel()
	rel := goldenRelease(t, demoAnswers)
	e, p := engineOf(t, &scripted{name: "scripted", lanes: 1}, rel, 1)
	fewer := *p
	fewer.Labels = p.Labels[:967]
	_, err := proveGolden(t.Context(), e, &fewer, rel, testenv.Worker(t), testLog(t))
	wantProofFailed(t, err, "coffee.png: found class 967, wanted 0 to 966")
}

func TestAProofEndsWhenItIsTold(t *testing.T) {
	t.Parallel()
	rel := goldenRelease(t, demoAnswers)
	ctx, cancel := context.WithCancel(t.Context())
	b := &scripted{name: "scripted", lanes: 1}
	e, p := engineOf(t, b, rel, 1)
	b.waiting = cancel
	if _, err := proveGolden(ctx, e, p, rel, testenv.Worker(t), testLog(t)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestWithoutAWorkerNothingIsSaidOfTheRelease(t *testing.T) {
	t.Parallel()
	rel := goldenRelease(t, demoAnswers)
	e, p := engineOf(t, &scripted{name: "scripted", lanes: 1}, rel, 1)
	_, err := proveGolden(t.Context(), e, p, rel, filepath.Join(t.TempDir(), "none"), testLog(t))
	if err == nil || release.CodeOf(err) != "" {
		t.Errorf("%v (%q)", err, release.CodeOf(err))
	}
}
