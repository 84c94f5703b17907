// Package double is a double of sightd's library for TensorRT, for tests: the C ABI
// (trt/abi) without NVIDIA's software. It builds, loads and runs engines of one model,
// which classifies by mean colour ([Scores]), whatever graph it is given.
//
// What machine it plays and what goes wrong is read from a script, the file that the
// environment's SIGHTD_TRT_DOUBLE names, again at each call. Its lines, of which none
// is needed:
//
//	image 8 8                     height and width of the engines that it builds
//	classes 5                     their classes
//	gain 8                        see Scores
//	device "Double GPU" 8.7 integrated   or discrete
//	uuid GPU-…
//	memory 8192                   MiB of the device
//	engine-memory 1               MiB of it that each engine takes
//	cores 2                       DLA cores; none at first
//	version 10.3.0                of TensorRT
//	compiled 10.3.0               of the headers
//	cuda 12.6.0
//	fail OP STATUS "message"      OP: open, device, calibrate, build, load, bind, run, wait, inspect
//	fail run after 100            and, if wanted, STATUS "message": runs beyond the 100th since fail
//	                              STATUS 13: all that follows fails too, until the process ends
//	crash OP                      abort; or: crash OP segv, kill, exit3
//	delay OP 5s                   open, calibrate, load, run, build; for build also: delay build 5s phase NAME, in turn
//	log 2 "a line"                logged at each build, with its severity
//	layers FILE                   what the inspector says
//	calibration asks              it refuses the calibration cache and asks for images
//	no registration               pixels are copied
//	no graphs                     runs aren't launched as CUDA graphs
//	no cancelling                 the builder takes no notice of being cancelled
//
// A node of another domain than ONNX's own is an operator that it lacks. The operators
// Softmax and Cast are those that its DLA lacks. A version before 10 can't cancel, one
// from 11 on has no calibration.
package double

import (
	"crypto/sha256"
	"embed"
	"fmt"
	"hash/crc32"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/sightd/sightd/trt/abi"
)

// Environment names the variable that holds the script's path.
const Environment = "SIGHTD_TRT_DOUBLE"

//go:embed *.cc *.h
var sources embed.FS

var mu sync.Mutex // one compiler is enough

// Library is the path of the double, compiled with the defines given, once for each
// state of its source. The test is skipped where there is no C++ compiler.
//
// The defines SIGHTD_TRT_DOUBLE_ABI=N and SIGHTD_TRT_DOUBLE_WITHOUT_WAIT make unfit ones.
func Library(t testing.TB, defines ...string) string {
	t.Helper()
	mu.Lock()
	defer mu.Unlock()
	files := sourceFiles(t)
	hash := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(hash, "%s %d\n%s", name, len(files[name]), files[name])
	}
	fmt.Fprint(hash, strings.Join(defines, "\x00"))
	dir := filepath.Join(folder(t), fmt.Sprintf("%x", hash.Sum(nil)[:8]))
	path := filepath.Join(dir, "libsightd-trt-double.so")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	compile(t, dir, path, files, defines)
	return path
}

// sourceFiles are what the double is compiled from, by their names as in package trt.
func sourceFiles(t testing.TB) map[string][]byte {
	t.Helper()
	files := map[string][]byte{"abi/sightd_trt.h": abi.Header}
	entries, err := sources.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if files["double/"+e.Name()], err = sources.ReadFile(e.Name()); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// folder is where doubles are kept, this user's own.
func folder(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("sightd-double-%d", os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := info.Sys().(*syscall.Stat_t); !ok || !info.IsDir() || int(s.Uid) != os.Getuid() || info.Mode().Perm()&0o022 != 0 {
		t.Fatalf("%s isn't this user's own folder: remove it", dir)
	}
	return dir
}

// compile makes the library at path, which appears whole or not at all: other test
// programs look for it too.
func compile(t testing.TB, dir, path string, files map[string][]byte, defines []string) {
	t.Helper()
	name := os.Getenv("CXX")
	if name == "" {
		name = "g++"
	}
	compiler, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("the double of TensorRT can't be compiled: no C++ compiler: %v", err)
	}
	work, err := os.MkdirTemp("", "sightd-double-*")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(work)
	for name, b := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(work, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(work, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	made := filepath.Join(dir, filepath.Base(work))
	args := []string{"-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden", "-shared", "-fPIC", "-o", made}
	for _, d := range defines {
		args = append(args, "-D"+d)
	}
	for name := range files {
		if strings.HasSuffix(name, ".cc") {
			args = append(args, filepath.Join(work, name))
		}
	}
	if out, err := exec.Command(compiler, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", compiler, err, out)
	}
	if err := os.Rename(made, path); err != nil {
		t.Fatal(err)
	}
}

// Script writes a script and returns its path.
func Script(t testing.TB, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Scale is the one that a calibration with images writes for the tensor input, its
// table's only one: of bytes whose CRC-32 is sum, (1 + sum mod 1000 / 1000) / 127.
func Scale(pixels []byte) float32 {
	return float32((1 + float64(crc32.ChecksumIEEE(pixels)%1000)/1000) / 127)
}

// Scores are those of an image of packed 8-bit RGB, by the double's formula: the
// softmax of gain · mean of channel c / 255 for the classes c < 3, and 0 for others.
func Scores(pixels []byte, classes int, gain float64) []float32 {
	logits := make([]float64, classes)
	total := 0.0
	for c := range logits {
		if c < 3 {
			for i := c; i < len(pixels); i += 3 {
				logits[c] += float64(pixels[i])
			}
			logits[c] *= gain / 255 / float64(len(pixels)/3)
		}
		total += math.Exp(logits[c])
	}
	scores := make([]float32, classes)
	for c := range scores {
		scores[c] = float32(math.Exp(logits[c]) / total)
	}
	return scores
}
