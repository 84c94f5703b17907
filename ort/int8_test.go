package ort_test

import (
	"bytes"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/sightd/sightd/ort"
)

// Bright pixels and large weights sum past 16 bits, where the INT8 kernels for
// processors without VNNI saturate unless told otherwise.
func TestINT8AnswersAreExact(t *testing.T) {
	t.Parallel()
	t.Log(ort.Features())
	e := load(t, build(t, "int8"))
	b := bind(t, e, file(t, "bright.u8"), 1)
	run(t, e, b)
	near(t, b.Scores(), floats(t, "int8.f32"))
}

// The same on emulated processors, both without VNNI, one without AVX2.
func TestINT8AnswersAreExactOnOlderProcessors(t *testing.T) {
	t.Parallel()
	if runtime.GOARCH != "amd64" {
		t.Skip("only the INT8 kernels for amd64 saturate")
	}
	emulator, err := exec.LookPath("qemu-x86_64")
	if err != nil {
		t.Skipf("no emulator, which is in Debian's package qemu-user: %v", err)
	}
	for _, processor := range []string{"Haswell", "Nehalem"} {
		t.Run(processor, func(t *testing.T) {
			t.Parallel()
			command := exec.Command(emulator, "-cpu", processor,
				os.Args[0], "-test.run=^TestINT8AnswersAreExact$", "-test.v")
			command.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
			out, err := command.CombinedOutput()
			if err != nil || !bytes.Contains(out, []byte("--- PASS: TestINT8AnswersAreExact ")) {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
