package ort_test

import (
	"fmt"

	"github.com/sightd/sightd/ort"
)

// openInstead names the variable that makes the test binary open a library,
// say how that went, and end: a process has one ONNX Runtime only.
const openInstead = "SIGHTD_TEST_OPEN"

func openAndSay(library string) {
	if err := ort.Open(library); err != nil {
		fmt.Println("error:", err)
		return
	}
	fmt.Println("version:", ort.Version())
}
