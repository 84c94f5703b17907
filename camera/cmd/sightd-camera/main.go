//go:build gocv_specific_modules

// Command sightd-camera captures frames for sightd, which starts it: a process
// for each camera, so that a capture that hangs or crashes can be replaced. It
// is spoken to over a socket at file descriptor 3; package wire says how.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sightd/sightd/camera/internal/capture"
	"github.com/sightd/sightd/camera/internal/wire"
)

const (
	controlFD = 3
	// closeGrace is how long a capture may take to be closed in order. One that
	// hangs is left to the kernel.
	closeGrace = time.Second
)

func main() {
	if len(os.Args) > 1 {
		if os.Args[1] == "--version" {
			fmt.Printf("sightd-camera, protocol %d, OpenCV %s\n", wire.Version, capture.Version())
			return
		}
		usage()
	}
	var stat syscall.Stat_t
	if syscall.Fstat(controlFD, &stat) != nil || stat.Mode&syscall.S_IFMT != syscall.S_IFSOCK {
		usage()
	}
	conn, err := wire.New(os.NewFile(controlFD, "control"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "sightd-camera:", err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	os.Exit(run(ctx, conn))
}

func usage() {
	fmt.Fprintln(os.Stderr, "sightd-camera is started by sightd and does nothing by itself; `sightd-camera --version` tells its version")
	os.Exit(2)
}

// run serves the daemon until the source ends, it fails, or it is told to stop.
// It returns the exit status.
func run(ctx context.Context, conn *wire.Conn) int {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := newWorker(conn)
	if err := conn.Send(wire.Message{Hello: &wire.Hello{Version: wire.Version, OpenCV: capture.Version()}}); err != nil {
		return 1
	}
	settings := make(chan wire.Settings, 1)
	go func() {
		defer cancel()
		w.listen(settings)
	}()
	captured := make(chan error, 1)
	go func() {
		select {
		case s := <-settings:
			captured <- w.capture(ctx, s)
		case <-ctx.Done():
			captured <- nil
		}
	}()

	var err error
	select {
	case err = <-captured:
	case <-ctx.Done():
		select {
		case err = <-captured:
		case <-time.After(closeGrace):
			return 1
		}
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		w.send(wire.Message{Error: &wire.Error{Text: clip(err.Error()), Fatal: true}})
		return 1
	}
	return 0
}

// clip keeps a text well within a packet, in which a byte can take six.
func clip(text string) string { return text[:min(len(text), wire.MaxPacket/8)] }
