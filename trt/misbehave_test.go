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
