// Package onnx reads ONNX models and changes their graphs: it puts a camera
// image's preprocessing in front of a classifier, softmax behind it, and turns
// a floating-point model into the INT8 one that a calibration cache's scales
// describe. It runs nothing; that is what ort and trt do.
package onnx

import (
	"fmt"
	"os"

	"google.golang.org/protobuf/proto"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// Model is one ONNX model in memory. Its methods are not safe for concurrent
// use; Clone it to change it elsewhere.
type Model struct {
	proto *pb.ModelProto
}

// Read reads and checks the model in the file at path.
func Read(path string) (*Model, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	m, err := Decode(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// Decode parses and checks a serialised ModelProto. The model doesn't keep b.
func Decode(b []byte) (*Model, error) {
	p := new(pb.ModelProto)
	if err := proto.Unmarshal(b, p); err != nil {
		return nil, fmt.Errorf("not an ONNX model: %w", err)
	}
	return &Model{proto: p}, nil
}

// Encode serialises the model; equal models give equal bytes.
func (m *Model) Encode() ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(m.proto)
}

// Clone returns a deep copy.
func (m *Model) Clone() *Model {
	return &Model{proto: proto.Clone(m.proto).(*pb.ModelProto)}
}
