// Command run shows sightd at work: it starts the daemon on the demo's video
// and photographs, subscribes to its broker as any MQTT client would, prints
// what arrives, and sums it up. Exit status 0 says that classifications of
// both cameras came through, with more than one label each, computed in INT8.
//
// It runs in the repository's root, after `make build`.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

const (
	configFile = "demo/sightd.yaml"
	stateDir   = "build/demo-state"
	logFile    = "build/demo.log"

	showTime  = 25 * time.Second // from the first event: the video once and a half
	startTime = 30 * time.Second // to the first event
)

var errInterrupted = errors.New("interrupted")

func main() {
	forever := flag.Bool("forever", false, "go on until interrupted")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := demo(ctx, *forever); err != nil {
		fmt.Fprintf(os.Stderr, "\nThe demo failed: %v\n", err)
		os.Exit(1)
	}
}

func demo(ctx context.Context, forever bool) error {
	// The engine is to be built here and now, not found from the last time.
	if err := os.RemoveAll(stateDir); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(stateDir), 0o755); err != nil {
		return err
	}
	broker, err := freeAddress("127.0.0.1:18830")
	if err != nil {
		return err
	}
	page, err := freeAddress("127.0.0.1:8080")
	if err != nil {
		return err
	}

	fmt.Printf("Starting sightd with %s: a video and a folder of photographs as cameras.\n"+
		"It builds the INT8 engine from demo/lite0's ONNX model and calibration cache. Its log: %s\n", configFile, logFile)
	d, err := startDaemon(broker, page)
	if err != nil {
		return err
	}
	defer d.stop()
	messages, err := subscribe(ctx, d, broker)
	if err != nil {
		return d.explain(err)
	}
	fmt.Printf("Subscribed to %s at mqtt://%s; the daemon's page is http://%s\n\n", topics, broker, page)

	seen := newTally(time.Now())
	err = show(ctx, d, messages, seen, forever)
	if err != nil && !errors.Is(err, errInterrupted) {
		return d.explain(err)
	}
	status, statusErr := readStatus(page)
	if stopErr := d.stop(); stopErr != nil {
		return d.explain(stopErr)
	}
	if statusErr != nil {
		return d.explain(statusErr)
	}
	summarise(os.Stdout, seen, status)
	if errors.Is(err, errInterrupted) {
		return nil
	}
	return judge(seen, status)
}

// show prints what arrives until the demo has lasted long enough.
func show(ctx context.Context, d *daemonProcess, messages <-chan message, seen *tally, forever bool) error {
	end := time.NewTimer(startTime)
	defer end.Stop()
	for {
		select {
		case m := <-messages:
			first := seen.events == 0
			if line := seen.take(m); line != "" {
				fmt.Println(line)
			}
			if first && seen.events > 0 {
				end.Reset(showTime)
			}
		case <-end.C:
			if seen.events == 0 {
				return fmt.Errorf("no classification arrived within %v", startTime)
			}
			if !forever {
				return nil
			}
		case <-d.ended:
			return errors.New("sightd ended by itself")
		case <-ctx.Done():
			return errInterrupted
		}
	}
}
