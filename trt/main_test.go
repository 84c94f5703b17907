package trt_test

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/sightd/sightd/trt"
	"github.com/sightd/sightd/trt/double"
)

// childVariable makes the test program one of those that the tests start.
const childVariable = "SIGHTD_TRT_TEST_CHILD"

func TestMain(m *testing.M) {
	last := os.Args[len(os.Args)-1]
	switch kind := os.Getenv(childVariable); kind {
	case "":
	case "build":
		os.Exit(trt.Child(last))
	case "probe":
		os.Exit(trt.ProbeChild(""))
	case "open":
		info, err := trt.Open(os.Getenv("SIGHTD_TRT_TEST_OPEN"))
		fmt.Printf("%s %v %v %v\n", info.Library, info.TensorRT, trt.StatusOf(err), err)
		os.Exit(0)
	default:
		misbehave(kind)
	}
	goleak.VerifyTestMain(m)
}

// child is the command of a child process of some kind, with the library and the
// double's script.
func child(t testing.TB, kind string, script ...string) []string {
	t.Helper()
	command := []string{"/usr/bin/env", childVariable + "=" + kind, "SIGHTD_TENSORRT=" + library(t), "GORACE=atexit_sleep_ms=0"}
	if !real() {
		command = append(command, double.Environment+"="+double.Script(t, script...))
	}
	return append(command, os.Args[0])
}

const (
	// suiteVariable is for the test program that runs the suite on another library.
	suiteVariable = "SIGHTD_TRT_TEST_SUITE"
	// libraryVariable names the real library.
	libraryVariable = "SIGHTD_TRT_TEST_LIBRARY"
)

// real tells whether this process tests the real library.
func real() bool { return os.Getenv(suiteVariable) != "" }

// library is the path of the library under test.
func library(t testing.TB) string {
	t.Helper()
	if path := os.Getenv(suiteVariable); path != "" {
		return path
	}
	return double.Library(t)
}

// open opens the library under test, which the whole process shares.
func open(t testing.TB) trt.Info {
	t.Helper()
	info, err := trt.Open(library(t))
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// play has the double of this process, which it opens, play a script. The test can't
// be parallel.
func play(t *testing.T, lines ...string) {
	t.Helper()
	open(t) // before: what Open finds is found once, for all tests
	t.Setenv(double.Environment, double.Script(t, lines...))
}
