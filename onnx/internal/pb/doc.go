// Package pb is ONNX's format in Go: onnx.pb.go is generated from the schema
// that the onnx package on PyPI ships, by `make generate`.
package pb

//go:generate ../../../scripts/generate.sh onnx/internal/pb
