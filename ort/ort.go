// Package ort runs prepared graphs on the CPU through ONNX Runtime.
//
// The library is opened at run time: call [Open] once before anything else.
// [Build] lets ONNX Runtime optimise a graph for this machine and stores the
// result, the engine; [Load] makes an [Engine] of it in a fraction of the time.
// A graph takes packed 8-bit RGB, N×H×W×3, and gives N×classes floats.
//
// What the library holds is freed by Close. A closed [Engine] or [Binding]
// answers with [ErrClosed].
package ort

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	onnxruntime "github.com/yalue/onnxruntime_go"
)

// ErrClosed is the error of an engine or binding that is used after its Close.
var ErrClosed = errors.New("onnx runtime: closed")

// errNotOpen is what all that needs the library says before Open.
var errNotOpen = errors.New("onnx runtime: not open: call Open first")

// opened is the process's one environment, which lives as long as the process.
var opened struct {
	sync.Mutex
	library string // what the loader was given; "" while there is none
	version string
}

// Open opens ONNX Runtime's library at the given path, or, where that is "",
// at the first of these places that has one: the path in the environment's
// SIGHTD_ONNXRUNTIME, ../lib/sightd beside the program, /usr/local/lib/sightd,
// /usr/lib/sightd, the loader's own path. One that is there and can't be used
// is an error: the search doesn't go on behind it.
//
// The library stays open until the process ends. Opening it again does
// nothing, and another one can't be had then. Open is safe for concurrent use.
func Open(library string) error {
	opened.Lock()
	defer opened.Unlock()
	if opened.library != "" {
		if library == "" || library == opened.library {
			return nil
		}
		return fmt.Errorf("onnx runtime: open %s: this process runs %s already, and can have only one", library, opened.library)
	}
	// DisableTelemetry comes too late for what is set up with the environment:
	// a folder in the user's cache, a file among the temporary ones, uploads.
	if err := os.Setenv("ORT_DISABLE_TELEMETRY", "1"); err != nil {
		return fmt.Errorf("onnx runtime: turn telemetry off: %w", err)
	}
	tame()
	library, err := initialize(library)
	if err != nil {
		return fmt.Errorf("onnx runtime: %w: %s", err, remedy)
	}
	if err := onnxruntime.DisableTelemetry(); err != nil {
		return fmt.Errorf("onnx runtime: library %s: turn telemetry off: %w", library, reason(err))
	}
	opened.library, opened.version = library, onnxruntime.GetVersion()
	return nil
}

// Version is the version of the library that Open opened, such as "1.32.0", or
// "" before.
func Version() string {
	opened.Lock()
	defer opened.Unlock()
	return opened.version
}

// reason is what the library itself said, on one line of sane length, without
// what its binding wrapped around it.
func reason(err error) error {
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	const most = 400 // bytes
	text := strings.Join(strings.Fields(err.Error()), " ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return errors.New(text)
}

func isOpen() bool { return Version() != "" }
