package trt_test

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/sightd/sightd/trt"
)

// misbehave is what children do that are no builders.
func misbehave(kind string) {
	switch kind {
	case "deaf": // to all but SIGKILL
		signal.Ignore(syscall.SIGTERM)
		fmt.Println(`{"progress":{"phase":"build"}}`)
		time.Sleep(time.Hour)
	case "parent": // of a builder, whose command are the arguments
		dir, err := os.MkdirTemp("", "sightd-trt-*")
		if err != nil {
			os.Exit(8)
		}
		o := trt.BuildOptions{Command: os.Args[1:], Progress: func(trt.Progress) {
			os.RemoveAll(dir) // the builder has read all of it, and this process is killed
			fmt.Println("building")
		}}
		_, err = trt.Build(context.Background(), dir, double10(), o)
		fmt.Println(err)
	case "broken": // by a run of the plan that is the argument
		fmt.Println(breakCUDA(os.Args[len(os.Args)-1]))
		os.Exit(0)
	case "silent":
		os.Exit(0)
	case "flood":
		long := strings.Repeat("x", 1<<20)
		fmt.Println(long)
		fmt.Println(`{"log":{"severity":2,"line":"after a line that is too long"}}`)
		for i := range 1000 {
			fmt.Printf(`{"log":{"severity":2,"line":"warning %d"}}`+"\n", i)
			fmt.Println(`{"log":{"severity":2,"line":"the same"}}`)
		}
		fmt.Fprintln(os.Stderr, long)
		fmt.Fprintln(os.Stderr, "the last words")
		os.Exit(7)
	}
	os.Exit(9)
}

// breakCUDA is what becomes of a run, of the next one, and of another load.
func breakCUDA(path string) []error {
	plan, err := os.ReadFile(path)
	if err != nil {
		return []error{err}
	}
	if _, err := trt.Open(""); err != nil {
		return []error{err}
	}
	e, err := trt.Load(plan, trt.LoadOptions{})
	if err != nil {
		return []error{err}
	}
	pixels := make([]byte, e.Batch()*e.Height()*e.Width()*3)
	b, err := e.Bind(pixels, e.Batch())
	if err != nil {
		return []error{err}
	}
	first, second := e.Run(b), e.Run(b)
	b.Close()
	e.Close()
	_, again := trt.Load(plan, trt.LoadOptions{})
	statuses := fmt.Errorf("statuses %d %d %d", trt.StatusOf(first), trt.StatusOf(second), trt.StatusOf(again))
	return []error{statuses, first, second, again}
}
