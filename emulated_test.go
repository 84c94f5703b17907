package main

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/sightd/sightd/internal/testenv"
)

// Processors without VNNI add products of bytes in 16 bits, where large ones
// don't fit; the INT8 answers have to be the same there. An emulated Haswell is
// such a processor.
func TestAnswersAreTheSameOnAProcessorWithoutVNNI(t *testing.T) {
	t.Parallel()
	qemu, err := exec.LookPath("qemu-x86_64")
	if err != nil || runtime.GOARCH != "amd64" {
		t.Skip("no qemu-x86_64 to emulate another processor with: apt install qemu-user")
	}
	args := []string{"classify", "--json", "--threads", "1", testenv.Demo("lite0")}
	for _, name := range []string{"coffee.png", "camera.png", "china.jpg"} {
		args = append(args, testenv.Demo("photos", name))
	}
	native := program(t, args...)
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), qemu, append([]string{"-cpu", "Haswell", testenv.Sightd(t)}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, errs.String())
	}
	want, got := lines(t, native.stdout, 3), lines(t, out.String(), 3)
	for i := range want {
		var a, b classified
		if err := json.Unmarshal([]byte(want[i]), &a); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(got[i]), &b); err != nil {
			t.Fatal(err)
		}
		// Kernels differ in how they round to INT8, by a step at most.
		if a.Top[0].Label != b.Top[0].Label || a.Top[0].Score-b.Top[0].Score > .03 || b.Top[0].Score-a.Top[0].Score > .03 {
			t.Errorf("%s: %s %.3f, emulated %s %.3f", filepath.Base(a.Path), a.Top[0].Label, a.Top[0].Score, b.Top[0].Label, b.Top[0].Score)
		}
	}
}
