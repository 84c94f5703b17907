// Command sightd classifies camera frames with an INT8 engine and publishes
// what it sees over MQTT.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

type cli struct {
	Run       runCmd       `cmd:"" help:"The daemon: cameras in, classifications out over MQTT."`
	Classify  classifyCmd  `cmd:"" help:"Classify images and videos once."`
	Eval      evalCmd      `cmd:"" help:"Measure the accuracy over labelled images against the same model in FP32."`
	Calibrate calibrateCmd `cmd:"" help:"Make a calibration cache from images."`
	Cache     cacheCmd     `cmd:"" help:"Show, check, compare and convert calibration caches."`
	Release   releaseCmd   `cmd:"" help:"Pack and install model releases."`
	Bench     benchCmd     `cmd:"" help:"The whole pipeline against the bare engine in the same run."`
	Config    configCmd    `cmd:"" help:"Check and show a configuration."`
	Build     buildCmd     `cmd:"" help:"Make a release's engine ahead of time."`
	Doctor    doctorCmd    `cmd:"" help:"What this machine has and lacks, each with its remedy."`
	Version   versionCmd   `cmd:"" help:"Version, commit and the back ends found."`

	BuildChild buildChildCmd `cmd:"" hidden:"" help:"The process that TensorRT builds in; sightd starts it itself."`
	ProbeChild probeChildCmd `cmd:"" hidden:"" help:"The process that tries whether TensorRT opens; sightd starts it itself."`
}

// app is what every command gets to work with.
type app struct {
	ctx            context.Context // ends at SIGINT and SIGTERM
	stdin          io.Reader
	stdout, stderr io.Writer
	noted          map[string]bool
}

// note writes a note to standard error, once.
func (a *app) note(text string) {
	if a.noted[text] {
		return
	}
	if a.noted == nil {
		a.noted = map[string]bool{}
	}
	a.noted[text] = true
	fmt.Fprintf(a.stderr, "note: %s\n", text)
}

// exitStatus is the error of a command that has said already what is wrong.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// usageError is an error in how a command was called: exit status 2.
type usageError struct{ error }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal has its usual effect
	status := run(&app{ctx: ctx, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}, os.Args[1:])
	stop()
	os.Exit(status)
}

// run carries one command line out and returns its exit status: 0 done, 1 it
// failed or found a fault, 2 wrong usage.
func run(a *app, args []string) int {
	var c cli
	status := -1
	parser, err := kong.New(&c,
		kong.Name("sightd"),
		kong.Description("INT8 classification of camera frames, from ONNX and a calibration cache, published over MQTT."),
		kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Writers(a.stdout, a.stderr),
		kong.Exit(func(n int) { status = n }),
		kong.Bind(a))
	if err != nil {
		panic(err) // the command structs are wrong
	}
	command, err := parser.Parse(args)
	if status >= 0 { // --help
		return status
	}
	if err != nil {
		fmt.Fprintf(a.stderr, "sightd: %v\nTry 'sightd --help'.\n", err)
		return 2
	}
	err = command.Run(a)
	var said exitStatus
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &said):
		return int(said)
	case errors.As(err, &usage):
		fmt.Fprintf(a.stderr, "sightd: %v\n", err)
		return 2
	case a.ctx.Err() != nil && errors.Is(err, context.Canceled):
		fmt.Fprintln(a.stderr, "sightd: interrupted")
		return 1
	}
	fmt.Fprintf(a.stderr, "sightd: %v\n", err)
	return 1
}
