// Command fleet measures a fleet against a cluster of three NATS servers on this
// machine: real sessions of package mqtt, each with an outbox of its own, under
// the configuration of docs/fleet. In the middle one server is killed. It ends
// with 1 when an event that was published didn't arrive. `make fleet-bench` runs
// it; docs/fleet.md has figures.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sightd/sightd/mqtt"
)

type config struct {
	devices    int
	rate       float64       // events a second, of each device
	phase      time.Duration // before the kill, and after it
	patience   time.Duration // for connecting all, and for the last events
	restart    bool          // the killed server is started again after half of the second phase
	durability mqtt.Durability
	server     string // nats-server
	configs    string // docs/fleet
	dir        string
}

func main() {
	var c config
	var seconds int
	var durability string
	flag.IntVar(&c.devices, "devices", 1000, "how many `devices` publish")
	flag.Float64Var(&c.rate, "rate", 5, "events a second of each device")
	flag.IntVar(&seconds, "seconds", 60, "how long they publish; a server is killed after half of it")
	flag.StringVar(&durability, "durability", string(mqtt.Memory), "of the outboxes: memory, outage, always; files of all devices lie on this machine's disk")
	flag.BoolVar(&c.restart, "restart", false, "start the killed server again while they publish")
	flag.StringVar(&c.server, "nats-server", "build/nats-server", "the `program`")
	flag.StringVar(&c.configs, "configs", "docs/fleet", "the `folder` with the servers' configuration")
	flag.Parse()
	c.durability, c.phase, c.patience = mqtt.Durability(durability), time.Duration(seconds)*time.Second/2, 3*time.Minute
	if c.devices < 1 || c.rate <= 0 || seconds < 2 {
		fmt.Fprintln(os.Stderr, "fleet: -devices and -rate have to be above 0, -seconds at least 2")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r, err := measureIn(ctx, c)
	if r != nil {
		r.print(os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		os.Exit(1)
	}
}

func measureIn(ctx context.Context, c config) (*report, error) {
	dir, err := os.MkdirTemp("", "sightd-fleet-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	c.dir = dir
	return measure(ctx, c)
}
