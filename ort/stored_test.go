package ort

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// described is a stored engine of the given graph's bytes.
func described(t testing.TB, graph []byte, d description) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "engine")
	if err := os.WriteFile(path, graph, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := describe(path, d); err != nil {
		t.Fatal(err)
	}
	return path
}

var anEngine = description{
	Runtime: "1.32.0", Features: "amd64 avx2", Input: "pixels", Batch: 1, Height: 224, Width: 320,
	Output: "scores", Classes: 1000, Ones: 2,
}

func TestDescriptionIsReadBack(t *testing.T) {
	t.Parallel()
	for _, graph := range [][]byte{nil, []byte("graph")} {
		path := described(t, graph, anEngine)
		got, err := examine(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(anEngine, got); diff != "" {
			t.Error(diff)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(data, graph) {
			t.Errorf("the graph has changed: %q", data)
		}
	}
}

func TestEngineForAnotherMachineIsRefused(t *testing.T) {
	t.Parallel()
	_, err := loadEngine(described(t, []byte("graph"), anEngine), Options{Threads: 1})
	const want = `built by ONNX Runtime 1.32.0 for "amd64 avx2", this is `
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q in it", err, want)
	}
}

// Nothing that a file may hold makes examine panic or read beyond it. The
// checksum is put right, to get behind it.
func FuzzExamine(f *testing.F) {
	whole, err := os.ReadFile(described(f, []byte("graph"), anEngine))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole[:len(whole)-digits])
	f.Add([]byte("{}00000002"))
	f.Add([]byte("{}ffffffff"))
	f.Add([]byte("{}-0000002"))
	f.Add([]byte("00000000"))
	f.Add([]byte("0"))
	f.Fuzz(func(t *testing.T, data []byte) {
		sealed := fmt.Appendf(bytes.Clone(data), "%0*x", digits, crc32.Checksum(data, castagnoli))
		for _, file := range [][]byte{sealed, data} {
			d, err := examineStored(bytes.NewReader(file), int64(len(file)))
			if err == nil && d.Height*d.Width*d.Classes <= 0 {
				t.Errorf("%q: passes with %+v", file, d)
			}
			if err != nil && !errors.Is(err, errDamaged) {
				t.Errorf("%q: %v, want errDamaged", file, err)
			}
		}
	})
}
