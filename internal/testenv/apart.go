package testenv

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Apart has a test run once more, in a process with a mount namespace of its own
// and with further flags, and is true there.
func Apart(t *testing.T, flags ...string) bool {
	t.Helper()
	const variable = "TESTENV_APART"
	if os.Getenv(variable) == t.Name() {
		return true
	}
	try := exec.Command("true")
	OwnMounts(try)
	if err := try.Run(); err != nil {
		t.Skipf("no mount namespace to be had here: %v", err)
	}
	c := exec.CommandContext(t.Context(), os.Args[0], append([]string{"-test.run=^" + t.Name() + "$", "-test.v"}, flags...)...)
	c.Env = append(os.Environ(), variable+"="+t.Name())
	OwnMounts(c)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	} else if _, why, skipped := strings.Cut(string(out), "SKIP: "); skipped {
		t.Skip(why)
	} else if testing.Verbose() {
		t.Logf("%s", out)
	}
	return false
}
