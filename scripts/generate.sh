#!/bin/sh
# generate.sh DIR: writes the Go code for ONNX's protobuf schema to DIR. The
# schema is the one of the onnx package among the tests' Python packages.
set -eu
cd "$(dirname "$0")/.."
out=$1
schema=$(build/venv/bin/python -c 'import onnx, os; print(os.path.dirname(onnx.__file__))')

mkdir -p "$out" build
go build -o build/protoc-gen-go google.golang.org/protobuf/cmd/protoc-gen-go
protoc --plugin=build/protoc-gen-go -I "$schema" --go_out="$out" --go_opt=paths=source_relative \
	--go_opt=Monnx-ml.proto=github.com/sightd/sightd/onnx/internal/pb onnx-ml.proto
mv "$out/onnx-ml.pb.go" "$out/onnx.pb.go"
