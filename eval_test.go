package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/sightd/sightd/internal/testenv"
)

// A real cache, made by TensorRT: what it says in INT8 is as good as FP32.
func TestLeNetWithARealCacheReadsDigitsAsInFP32(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	spec := write(t, filepath.Join(dir, "model.yaml"), fmt.Appendf(nil, `name: lenet
release: 1
model: %q
calibration: %q
input: {color: gray, resize: stretch, mean: [0], std: [255]}
`, testenv.Material(t, "models", "lenet_mnist_nvdla_fp32.onnx"),
		testenv.Material(t, "caches", "LeiWang1999+nvdla_loadables__lenet.calibaration.table")))
	index := digits(t, dir)

	o := program(t, "eval", spec, "--images", dir, "--index", index, "--json")
	var got evaluation
	if err := json.Unmarshal([]byte(o.stdout), &got); err != nil || o.status != 0 {
		t.Fatalf("exit status %d, %v: %s%s", o.status, err, o.stdout, o.stderr)
	}
	t.Logf("%+v", got)
	if got.Images != 10_000 || got.Precision != "int8" || got.Reference.Precision != "fp32" {
		t.Errorf("found %+v, wanted 10,000 digits in INT8 against FP32", got)
	}
	if !(got.Reference.Top1 > 0.97 && got.Drop < 0.005 && got.Agreement > 0.99) {
		t.Errorf("found %+v, wanted INT8 within half a point of FP32", got)
	}
}

// digits writes MNIST's test digits as images below dir, and their index.
func digits(t *testing.T, dir string) (index string) {
	t.Helper()
	const count, side = 10_000, 28
	pixels := gunzip(t, testenv.Material(t, "mnist", "t10k-images-idx3-ubyte.gz"))[16:]
	labels := gunzip(t, testenv.Material(t, "mnist", "t10k-labels-idx1-ubyte.gz"))[8:]
	rows := bytes.NewBufferString("file\tclass\n")
	for i := range count {
		name := fmt.Sprintf("%04d.pgm", i)
		head := fmt.Appendf(nil, "P5 %d %d 255\n", side, side)
		write(t, filepath.Join(dir, name), append(head, pixels[i*side*side:][:side*side]...))
		fmt.Fprintf(rows, "%s\t%d\n", name, labels[i])
	}
	return write(t, filepath.Join(dir, "index.tsv"), rows.Bytes())
}

func gunzip(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
