package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sightd/sightd/daemon"
	"github.com/sightd/sightd/internal/testenv"
)

// service is a daemon in a process of its own.
type service struct {
	t       *testing.T
	process *os.Process
	control string
	log     *testenv.Buffer
	ended   chan int // its exit status
}

// startService starts a daemon with the configuration that configured has written.
// At the end of the test it is gone.
func startService(t *testing.T, config string, flags ...string) *service {
	t.Helper()
	return startServiceIn(t, nil, config, flags...)
}

// startServiceIn is startService with more in its environment.
func startServiceIn(t *testing.T, env []string, config string, flags ...string) *service {
	t.Helper()
	s := &service{
		t: t, control: filepath.Join(filepath.Dir(config), "control.sock"),
		log: new(testenv.Buffer), ended: make(chan int, 1),
	}
	cmd := exec.Command(testenv.Sightd(t), append([]string{"run", "-c", config}, flags...)...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = s.log, s.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.process = cmd.Process
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_ = cmd.Wait()
		s.ended <- cmd.ProcessState.ExitCode()
	}()
	t.Cleanup(func() {
		_ = s.process.Kill()
		<-gone
		if t.Failed() {
			t.Logf("the log of %s:\n%s", t.Name(), s.log)
		}
	})
	return s
}

// end waits until the daemon ends by itself and returns its exit status.
func (s *service) end() int {
	s.t.Helper()
	select {
	case status := <-s.ended:
		return status
	case <-time.After(time.Minute):
		s.t.Fatal("it didn't end within a minute")
		return 0
	}
}

// stop sends a signal, upon which the daemon has 5 s to end, and returns the
// exit status.
func (s *service) stop(signal syscall.Signal) int {
	s.t.Helper()
	if err := s.process.Signal(signal); err != nil {
		s.t.Fatal(err)
	}
	select {
	case status := <-s.ended:
		return status
	case <-time.After(5 * time.Second):
		s.t.Fatalf("5 s after %v it is still there", signal)
		return 0
	}
}

// when waits until the daemon's status is as ok wants it, and returns it.
func (s *service) when(what string, ok func(*daemon.Status) bool) *daemon.Status {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		c, err := daemon.DialControl(s.control)
		if err != nil {
			continue // not yet
		}
		if status, err := c.Status(s.t.Context()); err == nil && ok(status) {
			return status
		}
	}
	s.t.Fatalf("not within a minute: %s", what)
	return nil
}

// refusal is the one line that a daemon ends with, beside its log.
func (s *service) refusal() string {
	s.t.Helper()
	var found []string
	for _, line := range strings.Split(s.log.String(), "\n") {
		if strings.HasPrefix(line, "sightd: ") {
			found = append(found, line)
		}
	}
	if len(found) != 1 {
		s.t.Errorf("%d errors, wanted one: %q", len(found), found)
	}
	return strings.Join(found, "\n")
}

// serviceConfig configures a daemon with the small release, one camera and,
// unless more has one, no page.
func serviceConfig(t *testing.T, source, more string) (path, stateDir string) {
	t.Helper()
	if !strings.Contains(more, "http:") {
		more += "http: {listen: \"\"}\n"
	}
	factory, err := filepath.Abs(tiny)
	if err != nil {
		t.Fatal(err)
	}
	return configured(t, fmt.Sprintf(`models: [{name: tiny, release: %q}]
cameras: [{name: door, source: %q}]
events: {mode: every, min_score: 0, max_rate: 0}
%s`, factory, source, more))
}

// freeAddress is one on which nobody listens, at the moment.
func freeAddress(t *testing.T) string {
	t.Helper()
	l := listener(t)
	l.Close()
	return l.Addr().String()
}

func listener(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}
