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
func described(t testing.TB, graph []byte, d description) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "engine")
	if err := os.WriteFile(path, graph, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := describe(path, d); err != nil {
		t.Fatal(err)
	}
	stored, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

var anEngine = description{
	Runtime: "1.32.0", Features: "amd64 avx2", Input: "pixels", Batch: 1, Height: 224, Width: 320,
	Output: "scores", Classes: 1000, Ones: 2,
}

func TestDescriptionIsReadBack(t *testing.T) {
	t.Parallel()
	for _, graph := range [][]byte{nil, []byte("graph")} {
		stored := described(t, graph, anEngine)
		got, err := examine(stored)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(anEngine, got); diff != "" {
			t.Error(diff)
		}
		if !bytes.HasPrefix(stored, graph) {
			t.Errorf("the graph has changed: %q", stored)
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
	whole := described(f, []byte("graph"), anEngine)
	f.Add(whole[:len(whole)-digits])
	f.Add([]byte("{}00000002"))
	f.Add([]byte("{}ffffffff"))
	f.Add([]byte("{}-0000002"))
	f.Add([]byte("00000000"))
	f.Add([]byte("0"))
	f.Fuzz(func(t *testing.T, data []byte) {
		sealed := fmt.Appendf(bytes.Clone(data), "%0*x", digits, crc32.Checksum(data, castagnoli))
		for _, file := range [][]byte{sealed, data} {
			d, err := examine(file)
			if err == nil && d.Height*d.Width*d.Classes <= 0 {
				t.Errorf("%q: passes with %+v", file, d)
			}
			if err != nil && !errors.Is(err, errDamaged) {
				t.Errorf("%q: %v, want errDamaged", file, err)
			}
		}
	})
}
