package ort_test

import (
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/sightd/sightd/ort"
)

// Bright pixels and large weights sum past 16 bits, where the INT8 kernels of
// processors without VNNI saturate unless told otherwise.
func TestINT8AnswersAreExact(t *testing.T) {
	t.Parallel()
	t.Log(ort.Features())
	e := load(t, build(t, "int8"))
	b := bind(t, e, file(t, "bright.u8"), 1)
	run(t, e, b)
	near(t, b.Scores(), floats(t, "int8.f32"))
}

// The same on an emulated processor without VNNI, where this one has it.
func TestINT8AnswersAreExactWithoutVNNI(t *testing.T) {
	t.Parallel()
	if runtime.GOARCH != "amd64" {
		t.Skip("only INT8 kernels for amd64 saturate")
	}
	if !strings.Contains(ort.Features(), "vnni") {
		t.Skip("this processor has no VNNI: TestINT8AnswersAreExact shows it")
	}
	emulator, err := exec.LookPath("qemu-x86_64")
	if err != nil {
		t.Skipf("no emulator (Debian's package qemu-user): %v", err)
	}
	out := emulate(t, emulator, "Haswell", "^TestINT8AnswersAreExact$")
	t.Logf("%s", out)
}

func emulate(t *testing.T, emulator, processor, tests string) []byte { return nil }
