package ort

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	onnxruntime "github.com/yalue/onnxruntime_go"

	"github.com/sightd/sightd/internal/sharedlib"
)

const (
	// environment names the variable that holds the library's path.
	environment = "SIGHTD_ONNXRUNTIME"

	// leastMinor is of the first release, 1.leastMinor, with the API that the
	// binding asks for (ORT_API_VERSION in its onnxruntime_c_api.h).
	leastMinor = 24

	remedy = "run `make build`, install sightd's package, or set " + environment + " to the path of a libonnxruntime.so"
)

// initialize finds the library, has it loaded, and returns what the loader was
// given: a path, or a bare name.
func initialize(library string) (string, error) {
	if library == "" {
		library = os.Getenv(environment)
	}
	if library != "" {
		return library, initializeFrom(library)
	}
	paths := places()
	for _, path := range paths {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return path, initializeFrom(path)
		}
	}
	names := []string{"libonnxruntime.so.1", "libonnxruntime.so"}
	for _, name := range names {
		err := load(name)
		if err == nil {
			return name, nil
		}
		// dlerror has no code, but glibc and musl both end on strerror's text.
		if !strings.HasSuffix(err.Error(), "No such file or directory") {
			return "", fmt.Errorf("library %s: %w", name, err)
		}
	}
	return "", fmt.Errorf("no library found: looked for %s, and by the loader for %s",
		strings.Join(paths, ", "), strings.Join(names, ", "))
}

func initializeFrom(path string) error {
	if err := check(path); err != nil {
		return fmt.Errorf("library %s: %w", path, err)
	}
	if err := load(path); err != nil {
		return fmt.Errorf("library %s: %w", path, err)
	}
	return nil
}

// places are the paths where an installation has the library.
func places() []string {
	dirs := sharedlib.Folders()
	for i, dir := range dirs {
		dirs[i] = filepath.Join(dir, "libonnxruntime.so")
	}
	return dirs
}

// load gives a path or name to the loader and makes the environment.
func load(library string) error {
	onnxruntime.SetSharedLibraryPath(library)
	// Each call returns its own error, so nothing is lost when the library
	// keeps quiet on standard error.
	err := onnxruntime.InitializeEnvironment(onnxruntime.WithLogLevelFatal())
	if err == nil {
		return nil
	}
	err = reason(err)
	if strings.HasPrefix(err.Error(), "Error setting ORT API base") {
		return fmt.Errorf("too old: wanted ONNX Runtime 1.%d or later", leastMinor)
	}
	if _, text, ok := strings.Cut(err.Error(), fmt.Sprintf("%q: ", library)); ok {
		return errors.New(text) // what dlerror said
	}
	return err
}

// check looks into a library for what the loader would refuse with a worse
// message, or with none.
func check(path string) error {
	return sharedlib.Check(path, func(library *elf.File, symbols []elf.Symbol) error {
		exports := func(s elf.Symbol) bool { return s.Name == "OrtGetApiBase" && s.Section != elf.SHN_UNDEF }
		if !slices.ContainsFunc(symbols, exports) {
			return errors.New("not ONNX Runtime: it has no OrtGetApiBase")
		}
		return checkVersion(library)
	})
}

// checkVersion reads the release from the version of the library's symbols,
// "VERS_1.32.0". Where they have none, the library itself will judge.
func checkVersion(library *elf.File) error {
	versions, err := library.DynamicVersions()
	if err != nil {
		return nil
	}
	for _, version := range versions {
		release, ok := strings.CutPrefix(version.Name, "VERS_1.")
		if !ok {
			continue
		}
		minor, _, _ := strings.Cut(release, ".")
		if n, err := strconv.Atoi(minor); err == nil && n < leastMinor {
			return fmt.Errorf("version 1.%s is too old: wanted ONNX Runtime 1.%d or later", release, leastMinor)
		}
	}
	return nil
}
