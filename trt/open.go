package trt

import (
	"fmt"
	"os"
	"strings"
	"sync"
)

// environment names the variable that holds the library's path.
const environment = "SIGHTD_TENSORRT"

var process struct {
	sync.Mutex
	tried bool
	info  Info
	err   error
}

// Open finds and opens the library for the TensorRT that this machine has, once a
// process: again it returns what it found then. With a path or a loader's name, that
// library and no other is taken; the environment's SIGHTD_TENSORRT stands for "".
// The error says what is missing and what to do; the Info beside it holds what was
// found before that.
func Open(library string) (Info, error) {
	process.Lock()
	defer process.Unlock()
	if process.tried {
		return process.info, process.err
	}
	process.tried = true
	if library == "" {
		library = os.Getenv(environment)
	}
	if library != "" {
		process.info, process.err = openAt(library)
	} else {
		process.info, process.err = openFound()
	}
	return process.info, process.err
}

// openAt opens one library, and TensorRT by it.
func openAt(library string) (Info, error) {
	if err := check(library); err != nil {
		return Info{}, openError(Missing, "library %s: %v: %s", library, err, remedy)
	}
	opening(library)
	switch kind, text := openTable(library); kind {
	case tableOpen:
	case tableNoSymbol:
		return Info{}, openError(Missing, "library %s: not sightd's for TensorRT, or cut short: it has no %s: %s", library, text, remedy)
	case tableOtherABI:
		return Info{}, openError(WrongVersion, "library %s: made for another sightd: its interface is %s, wanted %d: %s",
			library, text, abiVersion, remedy)
	default:
		what := remedyFor(text)
		if _, err := os.Stat(library); err == nil && !strings.Contains(library, "/") {
			what = "the loader doesn't look in the working directory: if that file is meant, call it ./" + library
		}
		return Info{}, openError(Missing, "library %s: %s: %s", library, withoutPrefix(text, library), what)
	}
	info := Info{Library: library}
	callVersion(&info) // its own is known before it has opened anything
	if major := info.Compiled.Major(); major > 0 {
		if err := whole(major); err != nil {
			return info, err
		}
		opening(nvinfer(major))
	}
	err := callOpen()
	callVersion(&info)
	if err != nil {
		if info.TensorRT == 0 && info.Compiled > 0 && StatusOf(err) == NoDevice {
			// The driver is looked for first. What else is there is worth knowing.
			info.TensorRT = versionOf(info.Compiled.Major())
		}
		return info, advise(err, info)
	}
	device, err := callDevice()
	if err != nil {
		return info, advise(err, info)
	}
	info.Device = device
	return info, nil
}

// DeviceNow is the device with the memory that is free now. Needs [Open].
func DeviceNow() (Device, error) {
	if !isOpen() {
		return Device{}, errNotOpen
	}
	return callDevice()
}

var errNotOpen = &Error{Missing, "open", "TensorRT isn't open"}

// isOpen waits for an Open that is under way.
func isOpen() bool {
	process.Lock()
	defer process.Unlock()
	return process.tried && process.err == nil
}

func openError(s Status, format string, args ...any) error {
	return &Error{s, "open", fmt.Sprintf(format, args...)}
}
