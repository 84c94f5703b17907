package testenv

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Unprivileged has a test run once more, in a process to which the rights of files
// apply whoever runs it, and is true there.
func Unprivileged(t *testing.T) bool {
	t.Helper()
	const variable = "TESTENV_UNPRIVILEGED"
	if os.Getenv(variable) == t.Name() || os.Geteuid() != 0 {
		return true
	}
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		t.Skipf("runs as root, to whom rights don't apply, and has no way to be less: %v", err)
	}
	if out, err := exec.Command(setpriv, "--bounding-set=-all", "--inh-caps=-all", "true").CombinedOutput(); err != nil {
		t.Skipf("runs as root, to whom rights don't apply, and can't be less here: %v: %s", err, out)
	}
	c := exec.CommandContext(t.Context(), setpriv, "--bounding-set=-all", "--inh-caps=-all", os.Args[0], "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$")
	c.Env = append(os.Environ(), variable+"="+t.Name())
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}
