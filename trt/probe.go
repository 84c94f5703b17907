package trt

import "context"

// Probe is Open in a child process, started by command, whose main function calls
// [ProbeChild]: where TensorRT is half installed it may crash, and this says so. A
// library other than "" is appended to the command.
func Probe(ctx context.Context, command []string, library string) (Info, error) {
	var info Info
	if library != "" {
		command = append(append([]string(nil), command...), library)
	}
	err := runChild(ctx, "open", command, nil, new(warnings), func(s said) {
		if s.Info != nil {
			info = *s.Info
		}
	})
	return info, err
}

// ProbeChild is the main function of Probe's child and returns its exit status.
func ProbeChild(library string) int {
	out, err := takeStdout()
	if err != nil {
		return 1
	}
	becomeVictim()
	info, err := Open(library)
	if err != nil {
		return out.end(err, "open")
	}
	out.say(said{Info: &info})
	return 0
}
