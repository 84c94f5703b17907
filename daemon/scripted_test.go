package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sightd/sightd/release"
	"github.com/sightd/sightd/trt"
)

// scripted is a back end that does as it is told. Its engines keep the contract
// of real ones; see TestEnginesKeepTheirContract.
type scripted struct {
	name     string
	lanes    int
	report   *BuildReport
	identity string // "" is "scripted"

	refuse error // of preparing
	// building is called for each build, the first being 1; nil builds at once.
	building func(ctx context.Context, n int, progress func(BuildProgress)) error
	waiting  func()            // called by each Wait; may be nil
	closing  func(release int) // called by each Close of an engine; may be nil

	mu     sync.Mutex
	each   map[int]error         // of running, by release
	nan    map[int]bool          // releases whose scores are
	delays map[int]time.Duration // of a run, by release
	single bool                  // there is memory for one engine alone
	broken error                 // of running
	locked error                 // of loading
	builds int
	loads  int
	open   int // engines
	under  int // runs that are under way
	most   int // at once, so far
	faults []string
}

func (b *scripted) Name() string     { return b.name }
func (b *scripted) Identity() string { return cmp.Or(b.identity, "scripted") }

func (b *scripted) Prepare(rel *release.Release, o PrepareOptions) (*Prepared, error) {
	if b.refuse != nil {
		return nil, b.refuse
	}
	c, err := rel.Check(o.Precision)
	if err != nil {
		return nil, err
	}
	p := newPrepared(c, o)
	if b.name == "tensorrt" { // without a plan, what is noted of it can't be used
		p.TensorRT = &TensorRTPlan{}
	}
	p.holds(fmt.Appendf(nil, "%s %d", rel.Spec.Name, rel.Spec.Release), nil)
	return p, nil
}

func (b *scripted) Build(ctx context.Context, p *Prepared, dir string, progress func(BuildProgress)) (*BuildReport, error) {
	b.mu.Lock()
	b.builds++
	n := b.builds
	b.mu.Unlock()
	graph, _, err := p.graph()
	if err != nil {
		return nil, err
	}
	if b.building != nil {
		if err := b.building(ctx, n, progress); err != nil {
			return nil, err
		}
	}
	return b.report, os.WriteFile(filepath.Join(dir, engineFile), graph, 0o644)
}

func (b *scripted) Load(p *Prepared, stored []byte) (Engine, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.locked != nil {
		return nil, b.locked
	}
	if b.single && b.open > 0 {
		return nil, &trt.Error{Status: trt.NoMemory, Op: "load", Message: "out of memory"}
	}
	b.loads++
	b.open++
	name, number := "", 0
	_, _ = fmt.Sscanf(string(stored), "%s %d", &name, &number)
	return &scriptedEngine{release: number, scripted: b, size: p.Width * p.Height * 3, classes: p.Classes, batch: p.Batch}, nil
}

// fail has engines fail, or work again.
func (b *scripted) fail(err error) {
	b.mu.Lock()
	b.broken = err
	b.mu.Unlock()
}

// failRelease has a release's engines fail, or work again.
func (b *scripted) failRelease(number int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.each == nil {
		b.each = map[int]error{}
	}
	b.each[number] = err
}

// spoil has a release's scores be no numbers.
func (b *scripted) spoil(number int) { b.nan = map[int]bool{number: true} }

// slow has a release's runs take longer.
func (b *scripted) slow(number int, by time.Duration) { b.delays = map[int]time.Duration{number: by} }

// oneAtATime has no second engine be loaded.
func (b *scripted) oneAtATime() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.single = true
}

// unloadable has loading fail.
func (b *scripted) unloadable(err error) {
	b.mu.Lock()
	b.locked = err
	b.mu.Unlock()
}

// running is how many runs are under way.
func (b *scripted) running() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.under
}

// counted is how much was done so far.
func (b *scripted) counted() (builds, loads, open int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.builds, b.loads, b.open
}

type scriptedEngine struct {
	*scripted
	release              int
	size, classes, batch int
	busy                 int
	closed               bool
}

type scriptedBinding struct {
	engine *scriptedEngine
	pixels []byte
	n      int
	scores []float32
	busy   bool
	closed bool
}

func (e *scriptedEngine) Lanes() int { return e.lanes }

func (e *scriptedEngine) Bind(pixels []byte, n int) (Binding, error) {
	if n < 1 || n > e.batch || len(pixels) != n*e.size {
		return nil, fmt.Errorf("bind %d bytes as %d images", len(pixels), n)
	}
	return &scriptedBinding{engine: e, pixels: pixels, n: n, scores: make([]float32, n*e.classes)}, nil
}

func (e *scriptedEngine) Frame(pixels []byte) (Frame, error) { return cpuFrame(pixels), nil }

func (b *scriptedBinding) Gather(i int, f Frame) error { return copyFrame(b.pixels, i, f.(cpuFrame)) }

// fault notes a use that the contract forbids.
func (e *scriptedEngine) fault(wrong bool, what string) {
	if wrong {
		e.faults = append(e.faults, what)
	}
}

func (e *scriptedEngine) Start(binding Binding) error {
	b := binding.(*scriptedBinding)
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := cmp.Or(e.broken, e.each[e.release]); err != nil {
		return err
	}
	e.fault(e.closed || b.closed, "started when closed")
	e.fault(b.engine != e, "started with another engine's binding")
	e.fault(b.busy, "a binding is in two runs")
	e.fault(e.busy == e.lanes, "more runs than lanes")
	b.busy = true
	e.busy++
	e.under++
	e.most = max(e.most, e.busy)
	return nil
}

// runTime is what a run takes at least. Sources whose every frame counts would else
// keep the machine busy with frames, and their events, that no test needs.
const runTime = 2 * time.Millisecond

// Wait scores each image by its first byte.
func (e *scriptedEngine) Wait(binding Binding) error {
	b := binding.(*scriptedBinding)
	if e.waiting != nil {
		e.waiting()
	}
	time.Sleep(runTime + e.delays[e.release])
	e.mu.Lock()
	defer e.mu.Unlock()
	e.fault(!b.busy, "waited for what wasn't started")
	b.busy = false
	e.busy--
	e.under--
	if err := cmp.Or(e.broken, e.each[e.release]); err != nil {
		return err
	}
	for i := range b.n {
		scores := b.scores[i*e.classes : (i+1)*e.classes]
		for c := range scores {
			scores[c] = 0.5 / float32(e.classes)
		}
		scores[int(b.pixels[i*e.size])%e.classes] += 0.5
		if e.nan[e.release] {
			scores[0] = float32(math.NaN())
		}
	}
	return nil
}

func (e *scriptedEngine) Close() error {
	if e.closing != nil {
		e.closing(e.release)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.fault(e.busy > 0, "closed while it runs")
	if !e.closed {
		e.closed = true
		e.open--
	}
	return nil
}

func (b *scriptedBinding) Scores() []float32 { return b.scores }

func (b *scriptedBinding) Close() error {
	b.engine.mu.Lock()
	defer b.engine.mu.Unlock()
	b.engine.fault(b.busy, "a binding is closed while it runs")
	b.closed = true
	return nil
}

var errScripted = errors.New("as scripted")
