package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo-terminal: what is written to the keyboard is typed.
func terminal(t *testing.T) (keyboard, screen *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo-terminals here:", err)
	}
	t.Cleanup(func() { keyboard.Close() })
	fd := int(keyboard.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	screen, err = os.OpenFile(fmt.Sprint("/dev/pts/", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo-terminals here:", err)
	}
	t.Cleanup(func() { screen.Close() })
	return keyboard, screen
}

// echoes tells whether what is typed is shown.
func echoes(t *testing.T, screen *os.File) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(screen.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

// typed waits for each question, whose answer isn't shown, and answers it.
func typed(t *testing.T, keyboard, screen *os.File, asked *shared, answers ...string) {
	t.Helper()
	for i, answer := range answers {
		for echoes(t, screen) || strings.Count(asked.String(), ": ") != i+1 {
			runtime.Gosched()
		}
		if _, err := keyboard.WriteString(answer + "\n"); err != nil {
			t.Fatal(err)
		}
	}
}

// shared is a buffer for two goroutines.
type shared struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *shared) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *shared) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

type answered struct {
	text string
	err  error
}

func TestAPasswordIsReadFromTheTerminalUnseen(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		twice   bool
		answers []string
		want    answered
	}{
		"of a key that is there": {false, []string{" correct horse "}, answered{" correct horse ", nil}},
		"a new one":              {true, []string{"a", "a"}, answered{"a", nil}},
		"two that differ":        {true, []string{"a", "b"}, answered{"", errors.New("the two passwords differ")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keyboard, screen := terminal(t)
			var asked shared
			a := &app{ctx: t.Context(), stdin: screen, stderr: &asked}
			got := make(chan answered, 1)
			go func() {
				text, err := passwordFlags{}.ask(a, "fleet.key", c.twice)
				got <- answered{text, err}
			}()
			typed(t, keyboard, screen, &asked, c.answers...)
			found := <-got
			if fmt.Sprint(found.err) != fmt.Sprint(c.want.err) || found.err == nil && found.text != c.want.text {
				t.Errorf("found %q, %v; wanted %q, %v", found.text, found.err, c.want.text, c.want.err)
			}
			if !strings.HasPrefix(asked.String(), "Password of fleet.key: \n") {
				t.Errorf("asked %q", asked.String())
			}
			if !echoes(t, screen) {
				t.Error("the terminal doesn't show what is typed any more")
			}
		})
	}
}

func TestASignalEndsTheQuestionForAPassword(t *testing.T) {
	t.Parallel()
	keyboard, screen := terminal(t)
	ctx, signal := context.WithCancel(t.Context())
	var asked shared
	a := &app{ctx: ctx, stdin: screen, stderr: &asked}
	got := make(chan error, 1)
	go func() {
		_, err := passwordFlags{}.ask(a, "fleet.key", false)
		got <- err
	}()
	for echoes(t, screen) {
		runtime.Gosched()
	}
	signal()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if !echoes(t, screen) {
		t.Error("the terminal doesn't show what is typed any more")
	}
	if _, err := keyboard.WriteString("\n"); err != nil { // frees who reads
		t.Error(err)
	}
}
