// Package abi holds the C interface between sightd and its libraries for TensorRT,
// sightd_trt.h, for who compiles against it without the source tree.
package abi

import _ "embed"

// Header is sightd_trt.h.
//
//go:embed sightd_trt.h
var Header []byte
