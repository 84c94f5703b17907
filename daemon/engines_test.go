package daemon

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sightd/sightd/release"
	"github.com/sightd/sightd/trt"
)

// builder is a back end whose engines are their graphs.
type builder struct {
	identity string
	builds   int
	fail     error // of building
	refuse   error // of loading, once
	loaded   string
}

// ID is the name of the engine's files.
func (s EngineStore) ID(b Backend, p *Prepared) string { return keyOf(b, p).ID() }

func (b *builder) Name() string     { return "builder" }
func (b *builder) Identity() string { return b.identity }

func (b *builder) Prepare(*release.Release, PrepareOptions) (*Prepared, error) {
	return nil, errors.New("not here")
}

func (b *builder) Build(ctx context.Context, p *Prepared, dir string, progress func(BuildProgress)) (*BuildReport, error) {
	b.builds++
	progress(BuildProgress{Phase: "try"})
	if err := errors.Join(ctx.Err(), b.fail); err != nil {
		return nil, err
	}
	graph, _, err := p.graph()
	if err != nil {
		return nil, err
	}
	return &BuildReport{Layers: map[string]int{"int8": 3}}, os.WriteFile(filepath.Join(dir, engineFile), graph, 0o644)
}

func (b *builder) Load(_ *Prepared, stored []byte) (Engine, error) {
	b.loaded = string(stored)
	if err := b.refuse; err != nil {
		b.refuse = nil
		return nil, err
	}
	return nothing{}, nil
}

// nothing is an engine that is never run.
type nothing struct{ Engine }

func (nothing) Close() error { return nil }

func preparedOf(graph string) *Prepared {
	p := &Prepared{Batch: 1}
	p.holds([]byte(graph), nil)
	return p
}

func testStore(t *testing.T) EngineStore {
	t.Helper()
	return EngineStore{Dir: filepath.Join(t.TempDir(), "engines"), Log: slog.New(slog.DiscardHandler), Damaged: new(atomic.Uint64)}
}

// open opens a graph's engine and closes it again.
func open(t *testing.T, s EngineStore, b Backend, graph string) *OpenedEngine {
	t.Helper()
	e, err := s.Open(t.Context(), b, preparedOf(graph), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	return e
}

func TestEngineIsBuiltOnceAndItsReportKept(t *testing.T) {
	t.Parallel()
	s, b := testStore(t), &builder{}
	first, second := open(t, s, b, "graph"), open(t, s, b, "graph")
	if first.Stored || !second.Stored || b.builds != 1 || first.ID != second.ID || first.Path != filepath.Join(s.Dir, first.ID+".engine") {
		t.Errorf("first %+v, second %+v, %d builds", first, second, b.builds)
	}
	if second.Report == nil || second.Report.Layers["int8"] != 3 || second.Size != 5 {
		t.Errorf("the stored engine tells %+v of its build, and %d bytes", second.Report, second.Size)
	}
}

func TestEveryPartOfTheKeyIsARebuild(t *testing.T) {
	t.Parallel()
	s := testStore(t)
	plain := func() *Prepared { return preparedOf("graph") }
	with := func(f func(p *Prepared)) *Prepared { p := plain(); f(p); return p }
	gpu := func(p *Prepared) { p.TensorRT = &TensorRTPlan{} }
	seen := map[string]bool{}
	for name, id := range map[string]string{
		"plain":          s.ID(&builder{}, plain()),
		"other identity": s.ID(&builder{identity: "TensorRT 10.3.1"}, plain()),
		"other graph":    s.ID(&builder{}, preparedOf("other")),
		"with a table":   s.ID(&builder{}, with(func(p *Prepared) { p.holds([]byte("graph"), []byte("table")) })),
		"another table":  s.ID(&builder{}, with(func(p *Prepared) { p.holds([]byte("graph"), []byte("elbat")) })),
		"on the GPU":     s.ID(&builder{}, with(gpu)),
		"on DLA":         s.ID(&builder{}, with(func(p *Prepared) { gpu(p); p.TensorRT.Cores = []int{0} })),
		"with options":   s.ID(&builder{}, with(func(p *Prepared) { gpu(p); p.TensorRT.Job.FP16 = true })),
	} {
		if seen[id] {
			t.Errorf("%s: the key is another's too", name)
		}
		seen[id] = true
	}
	one, two := with(gpu), with(gpu)
	one.TensorRT.Cores, two.TensorRT.Cores = []int{0}, []int{0, 1}
	if s.ID(&builder{}, one) != s.ID(&builder{}, two) {
		t.Error("the cores are part of the key, though they are chosen at load")
	}
}

func TestDamagedEngineIsBuiltAgainAndCounted(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(t *testing.T, engine string){
		"cut":              func(t *testing.T, engine string) { rewrite(t, engine, "gra") },
		"flipped":          func(t *testing.T, engine string) { rewrite(t, engine, "grapi") },
		"empty":            func(t *testing.T, engine string) { rewrite(t, engine, "") },
		"sidecar no JSON":  func(t *testing.T, engine string) { rewrite(t, sidecar(engine), "{") },
		"sidecar too long": func(t *testing.T, engine string) { rewrite(t, sidecar(engine), strings.Repeat(" ", maxSidecar+1)) },
		"sidecar of another": func(t *testing.T, engine string) {
			b, err := os.ReadFile(sidecar(engine))
			if err != nil {
				t.Fatal(err)
			}
			rewrite(t, sidecar(engine), strings.Replace(string(b), `"identity": ""`, `"identity": "another device"`, 1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, b := testStore(t), &builder{}
			damage(t, open(t, s, b, "graph").Path)
			b.loaded = ""
			s.Absent = func() {
				if b.loaded != "" {
					t.Errorf("%q was loaded before it was found damaged", b.loaded)
				}
			}
			if e := open(t, s, b, "graph"); e.Stored || b.builds != 2 || s.Damaged.Load() != 1 {
				t.Errorf("stored %v, %d builds, %d counted as damaged", e.Stored, b.builds, s.Damaged.Load())
			}
			if e := open(t, s, b, "graph"); !e.Stored {
				t.Error("it is built a third time")
			}
		})
	}
}

func TestBackEndIsGivenWhatWasHashed(t *testing.T) {
	t.Parallel()
	s, b := testStore(t), &builder{}
	for _, stored := range []bool{false, true} {
		if e := open(t, s, b, "graph"); e.Stored != stored || b.loaded != "graph" {
			t.Errorf("%q was loaded, stored %v, wanted the graph, stored %v", b.loaded, e.Stored, stored)
		}
		b.loaded = ""
	}
}

// Whoever serves meanwhile begins before the build, and whether it may begin or not.
func TestThatAnEngineIsAbsentIsTold(t *testing.T) {
	t.Parallel()
	s, b := testStore(t), &builder{}
	told := 0
	s.Absent = func() { told++ }
	for i, c := range []struct {
		graph        string
		refuse, fail error
		want         int
	}{
		{graph: "graph", want: 1},
		{graph: "graph", want: 0},
		{graph: "graph", refuse: errors.New("refused"), want: 1},
		{graph: "other", fail: errors.New("broken"), want: 1},
		{graph: "other", want: 1}, // not tried so soon
	} {
		told, b.refuse, b.fail = 0, c.refuse, c.fail
		e, err := s.Open(t.Context(), b, preparedOf(c.graph), nil)
		if err == nil {
			e.Close()
		}
		if told != c.want || (err == nil) != (c.graph == "graph") {
			t.Errorf("%d: told %d times, wanted %d; error %v", i, told, c.want, err)
		}
	}
}

func rewrite(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestEngineThatIsRefusedIsBuiltAgainOnce(t *testing.T) {
	t.Parallel()
	s, b := testStore(t), &builder{}
	open(t, s, b, "graph")
	b.refuse = &trt.Error{Status: trt.BadPlan, Op: "load", Message: "made for another device"}
	if e := open(t, s, b, "graph"); e.Stored || b.builds != 2 || s.Damaged.Load() != 1 {
		t.Errorf("stored %v, %d builds, %d counted", e.Stored, b.builds, s.Damaged.Load())
	}
}

func TestEngineIsNotBuiltAgainWhereTheMachineIsToBlame(t *testing.T) {
	t.Parallel()
	s, b := testStore(t), &builder{}
	open(t, s, b, "graph")
	b.refuse = &trt.Error{Status: trt.NoMemory, Op: "load", Message: "no memory left"}
	_, err := s.Open(t.Context(), b, preparedOf("graph"), nil)
	if trt.StatusOf(err) != trt.NoMemory || b.builds != 1 || s.Damaged.Load() != 0 {
		t.Errorf("error %v, %d builds, %d counted", err, b.builds, s.Damaged.Load())
	}
}

func TestBuildIsEstimatedByEarlierOnes(t *testing.T) {
	t.Parallel()
	s, b := testStore(t), &builder{}
	for _, graph := range []string{"a", "b", "c"} {
		open(t, s, b, graph)
	}
	for graph, seconds := range map[string]string{"a": "10", "b": "30", "c": "20"} {
		path := sidecar(filepath.Join(s.Dir, s.ID(b, preparedOf(graph))+".engine"))
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		from := strings.Index(string(text), `"build_seconds": `)
		to := from + strings.Index(string(text[from:]), ",")
		rewrite(t, path, string(text[:from])+`"build_seconds": `+seconds+string(text[to:]))
	}
	for graph, want := range map[string]time.Duration{"new": 20 * time.Second, "b": 30 * time.Second} {
		key := keyOf(b, preparedOf(graph))
		if got, _ := s.estimate(key); got != want {
			t.Errorf("the build of %s is estimated as %v, wanted %v", graph, got, want)
		}
	}
	var told []BuildProgress
	e, err := s.Open(t.Context(), b, preparedOf("new"), func(p BuildProgress) { told = append(told, p) })
	if err != nil {
		t.Fatal(err)
	}
	e.Close()
	if len(told) != 2 || told[0].Estimate != 20*time.Second || told[1].Phase != "try" || told[1].Elapsed <= 0 {
		t.Errorf("told %+v", told)
	}
}

func TestUnwritableStoreIsOneClearError(t *testing.T) {
	t.Parallel()
	s := testStore(t)
	rewrite(t, s.Dir, "a file")
	_, err := s.Open(t.Context(), &builder{}, preparedOf("graph"), nil)
	if err == nil || !strings.Contains(err.Error(), "make the folder for engines") || !strings.Contains(err.Error(), s.Dir) {
		t.Errorf("error %v", err)
	}
}
