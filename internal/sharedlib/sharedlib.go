// Package sharedlib is for the shared libraries that sightd opens at run time: where
// an installation has them, and what is wrong with one, said before the loader says
// it worse, or dies of it.
package sharedlib

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/sightd/sightd/internal/strict"
)

// machines are the ELF machines of the architectures that sightd is built for.
var machines = map[string]elf.Machine{
	"amd64": elf.EM_X86_64,
	"arm64": elf.EM_AARCH64,
}

// ErrCut is Check's error of a file that ends too early, which the loader may die of.
var ErrCut = errors.New("not a shared library, or cut short")

// Folders are where an installation has its libraries, the one beside the program
// first.
func Folders() []string {
	dirs := []string{"/usr/local/lib/sightd", "/usr/lib/sightd"}
	if program, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(program), "..", "lib", "sightd")
		dirs = slices.DeleteFunc(dirs, func(dir string) bool { return dir == beside })
		dirs = slices.Insert(dirs, 0, beside)
	}
	return dirs
}

// LoaderFolders are where the loader looks for libraries that have no path, as far as
// that is simple: not in its cache, nor in folders for single kinds of processor.
func LoaderFolders() []string {
	dirs := slices.DeleteFunc(filepath.SplitList(os.Getenv("LD_LIBRARY_PATH")), func(dir string) bool { return dir == "" })
	multiarch := map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}[runtime.GOARCH]
	return append(dirs, "/usr/local/lib", "/lib/"+multiarch, "/usr/lib/"+multiarch, "/lib64", "/usr/lib64", "/lib", "/usr/lib")
}

// Check looks into a library's headers for what keeps it from being loaded. The
// error doesn't name the path. further, which may be nil, sees the headers and the
// symbols of a library that is sound.
func Check(path string, further func(*elf.File, []elf.Symbol) error) error {
	file, err := os.Open(path)
	if err != nil {
		return strict.Bare(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return strict.Bare(err)
	}
	if !info.Mode().IsRegular() {
		return errors.New("not a file")
	}
	headers, err := elf.NewFile(file)
	if err != nil {
		return ErrCut
	}
	if want, known := machines[runtime.GOARCH]; known && headers.Machine != want {
		return fmt.Errorf("built for %v: wanted %v", headers.Machine, want)
	}
	// The loader maps what a segment says, and dies of SIGBUS where the file ends before.
	size := uint64(info.Size())
	for _, p := range headers.Progs {
		if p.Type == elf.PT_LOAD && (p.Off > size || p.Filesz > size-p.Off) {
			return ErrCut
		}
	}
	symbols, err := headers.DynamicSymbols()
	if err != nil {
		return ErrCut
	}
	if further == nil {
		return nil
	}
	return further(headers, symbols)
}
