package mqtt

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// Some tests need a process of their own, to be killed or to be apart: this test
// binary again, which does one of these instead of the tests.
var processes = map[string]func() error{
	"writer":    beWriter,
	"sufferer":  beSufferer,
	"publisher": bePublisher,
	"million":   beMillion,
}

const processVariable = "SIGHTD_MQTT_TEST_PROCESS"

// process prepares one. It ends with the test at the latest.
func process(t testing.TB, name string, variables ...string) *exec.Cmd {
	t.Helper()
	if processes[name] == nil {
		t.Fatalf("no process %q", name)
	}
	c := exec.Command(os.Args[0])
	c.Env = append(append(os.Environ(), processVariable+"="+name), variables...)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return c
}
