// Package onnx reads ONNX models and changes their graphs: it puts a camera
// image's preprocessing in front of a classifier, softmax behind it, and turns
// a floating-point model into the INT8 one that a calibration cache's scales
// describe. It runs nothing; that is what ort and trt do.
//
// A Model that Read or Decode returned is in one normal form, whatever wrote
// it: nodes stand in an order in which each reads only what stands before it,
// constants are initialisers, initialisers aren't listed among the graph's
// inputs, and float16 weights that a Cast widened are float32.
package onnx

import (
	"fmt"
	"io"
	"os"

	"google.golang.org/protobuf/proto"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// MaxSize is the largest model, in bytes, that Read and Decode take. The format
// itself ends at 2 GiB; no model of half that serves frames on a device that
// shares its memory between CPU and GPU.
const MaxSize = 1 << 30

// Model is one ONNX model in memory. Its methods are not safe for concurrent
// use; Clone it to change it elsewhere.
type Model struct {
	proto *pb.ModelProto
}

// Read reads and checks the model in the file at path.
func Read(path string) (*Model, error) {
	b, err := readFile(path)
	if err != nil {
		return nil, err
	}
	m, err := Decode(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// readFile reads at most MaxSize bytes, and none of a file that is larger.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path) // before it is opened: a pipe could block
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: is no regular file, want an ONNX model", path)
	}
	if info.Size() > MaxSize {
		return nil, fmt.Errorf("%s: %w", path, tooLarge(info.Size()))
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, info.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, fmt.Errorf("%s: the file changed while it was read: %w", path, err)
	}
	return b, nil
}

func tooLarge(size int64) error {
	return fmt.Errorf("%d bytes are too large for a model, at most %d are taken: check that it is the right file, "+
		"or store its weights as float16", size, MaxSize)
}

// Decode parses and checks a serialised ModelProto and brings it into the
// package's normal form. The model doesn't keep b.
func Decode(b []byte) (*Model, error) {
	if len(b) > MaxSize {
		return nil, tooLarge(int64(len(b)))
	}
	if what := otherFormat(b); what != "" {
		return nil, fmt.Errorf("%s, want an ONNX model", what)
	}
	if err := scan(b); err != nil {
		return nil, err
	}
	p := new(pb.ModelProto)
	if err := proto.Unmarshal(b, p); err != nil {
		return nil, fmt.Errorf("not an ONNX model: %w", err)
	}
	if err := check(p); err != nil {
		return nil, err
	}
	normalise(p)
	return &Model{proto: p}, nil
}

// Encode serialises the model; equal models give equal bytes. It fails only
// for a model that has grown beyond MaxSize.
func (m *Model) Encode() ([]byte, error) {
	if size := proto.Size(m.proto); size > MaxSize {
		return nil, tooLarge(int64(size))
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m.proto)
	if err != nil {
		return nil, fmt.Errorf("serialise model: %w", err)
	}
	return b, nil
}

// Clone returns a deep copy.
func (m *Model) Clone() *Model {
	return &Model{proto: proto.Clone(m.proto).(*pb.ModelProto)}
}
