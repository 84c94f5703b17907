package trt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sightd/sightd/internal/sharedlib"
)

// majors are those of TensorRT that there are libraries for, the one that is
// preferred first.
var majors = []int{11, 10, 8}

const (
	remedy = "run `make tensorrt`, install sightd's package, or set " + environment + " to the path of a libsightd-trt*.so"

	remedyAbsent = "install TensorRT, e.g. `apt install nvidia-jetpack` on a Jetson or `apt install tensorrt-libs` elsewhere, or use back end ort"

	remedyDLA = "install nvidia-l4t-dla-compiler, which JetPack 6 needs even where there is no DLA"
)

// openFound looks which TensorRT the machine has and opens the library for it. Where
// there are several, the newest that has a library and works is taken; if none does,
// the error is that of the newest.
func openFound() (Info, error) {
	var info Info
	var first error
	failed := func(i Info, err error) {
		if first == nil {
			info, first = i, err
		}
	}
	var without []int
	for _, major := range majors {
		library, _ := findLibrary(major)
		if library == "" {
			without = append(without, major)
			continue
		}
		there, err := find(major)
		if err != nil {
			failed(Info{Library: library}, err)
		}
		if !there {
			continue
		}
		i, err := openAt(library)
		if err == nil {
			return i, nil
		}
		failed(i, err)
		if StatusOf(err) == NoDevice {
			break // another TensorRT won't find one either
		}
	}
	if first != nil {
		return info, first
	}
	// Last, since what is loaded here is of no use.
	for _, major := range without {
		there, err := find(major)
		if there {
			_, looked := findLibrary(major)
			return Info{}, openError(Missing, "TensorRT %d is there, but sightd's library for it isn't: looked for %s: %s",
				major, strings.Join(looked, ", "), remedy)
		} else if err != nil {
			return Info{}, err
		}
	}
	return Info{}, openError(Missing, "no TensorRT: the loader finds no %s: %s", names(), remedyAbsent)
}

// find tells whether the machine has a major version of TensorRT; the error says why
// one that is there can't be loaded.
func find(major int) (bool, error) {
	name := nvinfer(major)
	if err := whole(major); err != nil {
		return false, err
	}
	opening(name)
	ok, text := loaderOpens(name)
	if ok || absent(name, text) {
		return ok, nil
	}
	return false, openError(Missing, "TensorRT %d is there, but it can't be loaded: %s: %s", major, text, remedyFor(text))
}

func nvinfer(major int) string { return fmt.Sprintf("libnvinfer.so.%d", major) }

func names() string {
	var all []string
	for _, major := range majors {
		all = append(all, nvinfer(major))
	}
	return strings.Join(all, ", ")
}

// versionOf is the version of a major version of TensorRT that the loader finds, 0
// where it finds none.
func versionOf(major int) Version {
	name := nvinfer(major)
	opening(name)
	return nvinferVersion(name)
}

// whole tells of the library that the loader will find that it ends too early: the
// loader dies of that. Whatever else may be wrong is the loader's to say.
func whole(major int) error {
	name := nvinfer(major)
	for _, dir := range sharedlib.LoaderFolders() {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err != nil {
			continue
		}
		if err := sharedlib.Check(path, nil); errors.Is(err, sharedlib.ErrCut) {
			return openError(Missing, "TensorRT %d is there, but it can't be loaded: %s: %v: install it again", major, path, err)
		} else if err == nil {
			return nil
		}
	}
	return nil
}

// absent tells whether the loader's words mean that it didn't find the library
// itself, rather than one that it needs.
func absent(name, text string) bool {
	// dlerror has no code, but glibc and musl both name the file and have strerror's text.
	return strings.Contains(text, name+":") && strings.Contains(text, "No such file or directory") &&
		!strings.Contains(text, "needed by")
}

// findLibrary is the path of the library for a major version of TensorRT, or ""
// and where it was looked for.
func findLibrary(major int) (path string, looked []string) {
	for _, dir := range sharedlib.Folders() {
		path := filepath.Join(dir, fmt.Sprintf("libsightd-trt%d.so", major))
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return path, nil
		}
		looked = append(looked, path)
	}
	return "", looked
}

// check looks into a library for what the loader would refuse with a worse message,
// or with none. A name without a slash is the loader's to find.
func check(library string) error {
	if !strings.Contains(library, "/") {
		return nil
	}
	return sharedlib.Check(library, nil)
}

// withoutPrefix takes the library's name off what the loader says of it.
func withoutPrefix(text, library string) string { return strings.TrimPrefix(text, library+": ") }

// remedyFor is what to do where the loader gives a reason.
func remedyFor(text string) string {
	switch {
	case strings.Contains(text, "libnvdla_compiler"):
		return remedyDLA
	case strings.Contains(text, "libnvinfer"):
		return remedyAbsent
	}
	return "install what is missing, or use back end ort"
}

// advise adds to what the library says why it doesn't open what to do, where it
// doesn't say that itself.
func advise(err error, info Info) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	what := ""
	switch {
	case strings.Contains(e.Message, "libnvdla_compiler"):
		what = remedyDLA
	case e.Status == Missing:
		what = remedyFor(e.Message)
	case e.Status == NoDevice:
		// The library has no part in it.
		if !strings.Contains(e.Message, "install") && !strings.Contains(e.Message, "nvidia-smi") && !strings.Contains(e.Message, "look that") {
			what = ": see that nvidia-smi works, or tegrastats on a Jetson, or use back end ort"
		}
		return &Error{e.Status, e.Op, e.Message + what}
	case e.Status == WrongVersion:
		what = "install the TensorRT that the library is made for, or " + remedy
	}
	if what != "" {
		what = ": " + what
	}
	return &Error{e.Status, e.Op, fmt.Sprintf("library %s: %s%s", info.Library, e.Message, what)}
}
