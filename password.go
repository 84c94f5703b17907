package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"

	"github.com/sightd/sightd/internal/strict"
)

const maxPassword = 4 << 10

// passwordFlags say where a secret key's password comes from.
type passwordFlags struct {
	PasswordFile string `type:"path" placeholder:"FILE" help:"Take the password from the first line of a file, and ask nobody."`
}

// ask gets the password of the secret key at path; with twice it is a new one.
func (p passwordFlags) ask(a *app, path string, twice bool) (string, error) {
	if p.PasswordFile != "" {
		text, err := strict.ReadFile(p.PasswordFile, maxPassword)
		if err != nil {
			return "", fmt.Errorf("--password-file: %w", err)
		}
		line, _, _ := bytes.Cut(text, []byte("\n"))
		return string(bytes.TrimSuffix(line, []byte("\r"))), nil
	}
	terminal, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(terminal.Fd())) {
		return "", fmt.Errorf("%s takes a password, and there is no terminal to ask for it: name a file with it with --password-file", path)
	}
	given, err := a.readPassword(terminal, "Password of "+path+": ")
	if err != nil || !twice {
		return given, err
	}
	again, err := a.readPassword(terminal, "The same again: ")
	if err == nil && again != given {
		err = errors.New("the two passwords differ")
	}
	return given, err
}

// readPassword reads a line that isn't shown. A signal ends it, and the terminal is
// as before.
func (a *app) readPassword(terminal *os.File, prompt string) (string, error) {
	fd := int(terminal.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return "", err
	}
	type line struct {
		text []byte
		err  error
	}
	read := make(chan line, 1)
	fmt.Fprint(a.stderr, prompt)
	go func() { // with a signal it is left waiting: the process ends
		text, err := term.ReadPassword(fd)
		read <- line{text, err}
	}()
	defer fmt.Fprintln(a.stderr)
	select {
	case <-a.ctx.Done():
		return "", errors.Join(a.ctx.Err(), term.Restore(fd, before))
	case l := <-read:
		if errors.Is(l.err, io.EOF) {
			l.err = errors.New("no password was given")
		}
		return string(l.text), l.err
	}
}
