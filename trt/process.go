package trt

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxSaid bounds a line of a child's; a longer one isn't read.
	maxSaid = 64 << 10
	// pipeGrace is for what a child that is gone left in its pipes: a grandchild
	// may hold them open.
	pipeGrace = time.Second
)

// cancelGrace is for a child that is asked to stop, before it is killed.
var cancelGrace = 10 * time.Second

// runChild runs a child process, hands over what it says, from this goroutine, and
// returns what became of it: nil, the error that it says, or how it died. stdin, which
// may be nil, is closed here.
func runChild(ctx context.Context, op string, command []string, stdin *os.File, log *warnings, hear func(said)) error {
	if stdin != nil {
		defer stdin.Close()
	}
	if err := ctx.Err(); err != nil {
		return &Error{Cancelled, op, "cancelled: " + context.Cause(ctx).Error()}
	}
	stdout, pipe, err := os.Pipe()
	if err != nil {
		return &Error{Failed, op, err.Error()}
	}
	defer stdout.Close()
	var stderr tail
	cmd := exec.Command(command[0], command[1:]...)
	if command[0] == "/proc/self/exe" {
		cmd.Args[0] = os.Args[0] // which says more to whoever lists processes
	}
	cmd.Stdout, cmd.Stderr = pipe, &stderr
	if stdin != nil {
		cmd.Stdin = stdin
	}
	cmd.WaitDelay = pipeGrace
	// Of a group of its own: a Ctrl-C at the terminal is for the parent, which ends it in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started, gone := make(chan error), make(chan struct{})
	go func() {
		// The kernel takes the end of the thread that forked for the parent's death.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		pipe.Close()
		if stdin != nil {
			stdin.Close() // so that writing to a child that is gone fails
		}
		started <- err
		if err != nil {
			return
		}
		_ = cmd.Wait() // what it says is in ProcessState
		_ = stdout.SetReadDeadline(time.Now().Add(pipeGrace))
		close(gone)
	}()
	if err := <-started; err != nil {
		return &Error{Failed, op, fmt.Sprintf("start the child process: %v", err)}
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		stopChild(ctx, cmd, gone)
	}()
	var failed *Error
	finished := false
	readLines(stdout, func(line []byte) {
		var s said
		if json.Unmarshal(line, &s) != nil {
			return
		}
		if s.Log != nil {
			log.add(s.Log.Severity, s.Log.Line)
		}
		if s.Error != nil {
			failed = s.Error
		}
		finished = finished || s.Done || s.Info != nil
		hear(s)
	})
	<-gone
	<-stopped
	switch {
	case finished && failed == nil:
		return nil // and whatever became of it afterwards
	case ctx.Err() != nil:
		return &Error{Cancelled, op, "cancelled: " + context.Cause(ctx).Error()}
	case failed != nil:
		if failed.Status == Broken { // in that process alone
			failed.Status = Failed
		}
		return failed
	}
	return &Error{Crashed, op, crash(cmd.ProcessState, log, &stderr)}
}

// stopChild asks a child to stop when ctx ends, and kills it and what it started if
// it doesn't, until it is gone.
func stopChild(ctx context.Context, cmd *exec.Cmd, gone <-chan struct{}) {
	select {
	case <-gone:
		return
	case <-ctx.Done():
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	timer := time.NewTimer(cancelGrace)
	defer timer.Stop()
	select {
	case <-gone:
	case <-timer.C:
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Process.Kill()
		<-gone
	}
}

// readLines reads to the end, and leaves out lines that are too long.
func readLines(r io.Reader, f func([]byte)) {
	b := bufio.NewReaderSize(r, maxSaid)
	for long := false; ; {
		line, err := b.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			long = true
			continue
		case !long && len(line) > 0:
			f(line)
		}
		if err != nil {
			return
		}
		long = false
	}
}

// causes are what signals mean for a builder.
var causes = map[syscall.Signal]string{
	syscall.SIGKILL: "killed (SIGKILL): perhaps there wasn't enough memory, which the kernel's log (dmesg) tells",
	syscall.SIGABRT: "it gave up (SIGABRT): a library called abort",
	syscall.SIGSEGV: "it crashed (SIGSEGV): a library used memory that isn't its own",
	syscall.SIGBUS:  "it crashed (SIGBUS): a library used memory that isn't there, or a file that was cut short",
	syscall.SIGILL:  "it crashed (SIGILL): a library uses instructions that this processor doesn't have",
	syscall.SIGSYS:  "killed (SIGSYS): the sandbox forbids a system call",
}

// crash says how a child ended that said nothing.
func crash(state *os.ProcessState, log *warnings, stderr *tail) string {
	text := state.String()
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		text = "it was ended by " + unix.SignalName(status.Signal())
		if cause, known := causes[status.Signal()]; known {
			text = cause
		}
	}
	text = "the child process ended without a word: " + text
	if log.last != "" {
		text += "; TensorRT's last error: " + cut(log.last, maxLine)
	}
	if last := stderr.lines(3); last != "" {
		text += "; it had written: " + last
	}
	return text
}
