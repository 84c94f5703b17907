package trt

import (
	"context"
	"errors"
)

// Probe is Open in a child process, started by command, whose main function calls
// [ProbeChild]: where TensorRT is half installed it may crash, and this says so. A
// library other than "" is appended to the command.
func Probe(ctx context.Context, command []string, library string) (Info, error) {
	var info Info
	at := ""
	if library != "" {
		command = append(append([]string(nil), command...), library)
	}
	err := runChild(ctx, "open", command, nil, new(warnings), func(s said) {
		if s.Info != nil {
			info = *s.Info
		}
		if s.Opening != "" {
			at = s.Opening
		}
	})
	var e *Error
	if at != "" && errors.As(err, &e) && e.Status == Crashed {
		err = &Error{e.Status, e.Op, at + " can't be opened: " + e.Message}
	}
	return info, err
}

// ProbeChild is the main function of Probe's child and returns its exit status.
func ProbeChild(library string) int {
	out, err := takeStdout()
	if err != nil {
		return 1
	}
	becomeVictim()
	opening = func(what string) { out.say(said{Opening: what}) }
	info, err := Open(library)
	line := said{Info: &info}
	if err != nil && !errors.As(err, &line.Error) {
		line.Error = &Error{Failed, "open", err.Error()}
	}
	out.say(line)
	if err != nil {
		return 1
	}
	return 0
}

// opening is told of each library before the loader opens it, which it may not survive.
var opening = func(string) {}
