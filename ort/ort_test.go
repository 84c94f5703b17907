package ort_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/ort"
)

func TestMain(m *testing.M) {
	if library, ok := os.LookupEnv(openInstead); ok {
		openAndSay(library)
		return
	}
	status := m.Run()
	if dir := graphs.dir; dir != "" {
		os.RemoveAll(dir)
	}
	if err := goleak.Find(); status == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

// open opens ONNX Runtime, which the whole test binary shares.
func open(t testing.TB) {
	t.Helper()
	if err := ort.Open(testenv.ONNXRuntime(t)); err != nil {
		t.Fatal(err)
	}
}

// graphs is the folder that testdata/graphs.py has filled, once.
var graphs struct {
	once sync.Once
	dir  string
	err  error
}

// file is a file that testdata/graphs.py wrote.
func file(t testing.TB, name string) []byte {
	t.Helper()
	python := testenv.Python(t)
	graphs.once.Do(func() {
		if graphs.dir, graphs.err = os.MkdirTemp("", "sightd-ort-*"); graphs.err != nil {
			return
		}
		out, err := exec.Command(python, "testdata/graphs.py", graphs.dir).CombinedOutput()
		if err != nil {
			graphs.err = fmt.Errorf("testdata/graphs.py: %w\n%s", err, out)
		}
	})
	if graphs.err != nil {
		t.Fatal(graphs.err)
	}
	data, err := os.ReadFile(filepath.Join(graphs.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// floats is a file of float32 that testdata/graphs.py wrote.
func floats(t testing.TB, name string) []float32 {
	t.Helper()
	data := file(t, name)
	values := make([]float32, len(data)/4)
	for i := range values {
		values[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	return values
}

// build builds the engine of the named graph.
func build(t testing.TB, graph string) (stored []byte) {
	t.Helper()
	open(t)
	path := filepath.Join(t.TempDir(), graph+".engine")
	if err := ort.Build(file(t, graph+".onnx"), path, ort.Options{Threads: 1}); err != nil {
		t.Fatal(err)
	}
	stored, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

func load(t testing.TB, stored []byte) *ort.Engine {
	t.Helper()
	e, err := ort.Load(stored, ort.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func bind(t testing.TB, e *ort.Engine, pixels []byte, n int) *ort.Binding {
	t.Helper()
	b, err := e.Bind(pixels, n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func run(t testing.TB, e *ort.Engine, b *ort.Binding) {
	t.Helper()
	if err := e.Run(b); err != nil {
		t.Fatal(err)
	}
}

// near fails unless got is want within 1e-6.
func near(t testing.TB, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d scores, want %d", len(got), len(want))
	}
	for i := range got {
		if !(math.Abs(float64(got[i]-want[i])) <= 1e-6) {
			t.Fatalf("scores %v, want %v", got, want)
		}
	}
}

// wantError fails unless err is one line that has all the texts.
func wantError(t testing.TB, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", texts)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q, want %q in it", err, text)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error of several lines: %q", err)
	}
}
