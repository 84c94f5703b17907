package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/sightd/sightd/internal/natscluster"
	"github.com/sightd/sightd/mqtt"
)

// measure starts everything, kills a server in the middle, and counts. An error
// with a report: it was measured, and isn't as it should be.
func measure(ctx context.Context, c config) (r *report, err error) {
	users, err := os.ReadFile(filepath.Join(c.configs, "nats-users.conf"))
	if err != nil {
		return nil, err
	}
	fleet, err := natscluster.Fleet(string(users), "hall-", c.devices)
	if err != nil {
		return nil, err
	}
	server, err := filepath.Abs(c.server)
	if err != nil {
		return nil, err
	}
	hosts, err := natscluster.Hosts()
	if err != nil {
		return nil, err
	}
	starting, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	cluster, err := natscluster.Start(starting, natscluster.Options{Program: server, Configs: c.configs, Dir: c.dir, Users: fleet}, hosts)
	if err != nil {
		return nil, err
	}
	defer cluster.Close()
	password := filepath.Join(c.dir, "password")
	if err := os.WriteFile(password, []byte("device-password"), 0o600); err != nil {
		return nil, err
	}

	start := time.Now()
	w := &watcher{devices: map[string]*device{}, start: start}
	urls := cluster.URLs("mqtt")
	// The server that is killed is none of the subscriber's.
	if err := w.subscribe([]string{urls[2], urls[1], urls[0]}, c.patience); err != nil {
		return nil, err
	}
	defer w.client.Disconnect(250)

	measured := &report{config: c, before: residentBytes("self")}
	var devices []*device
	running, stop := context.WithCancel(ctx)
	var sessions sync.WaitGroup
	defer func() {
		stop()
		sessions.Wait()
		for _, d := range devices {
			err = errors.Join(err, d.outbox.Close())
		}
	}()
	for i := range c.devices {
		d, err := newDevice(c, i, urls, password, start)
		if err != nil {
			return nil, err
		}
		devices = append(devices, d)
		w.devices[d.name] = d
	}
	connecting := time.Now()
	for _, d := range devices {
		sessions.Add(1)
		go func() {
			defer sessions.Done()
			_ = d.client.Run(running) // it runs once
		}()
	}
	if err := connected(starting, devices); err != nil {
		return nil, err
	}
	measured.connect = time.Since(connecting)
	debug.FreeOSMemory()
	measured.idle = residentBytes("self")
	for _, d := range devices { // what wasn't in order before isn't the kill's
		d.lost.Store(0)
		d.back.Store(0)
	}

	publishing, enough := context.WithCancel(ctx)
	defer enough()
	failed := make(chan error, len(devices))
	var publishers sync.WaitGroup
	measured.from = time.Since(start)
	for _, d := range devices {
		publishers.Add(1)
		go func() {
			defer publishers.Done()
			if err := d.publish(publishing, c.rate, start); err != nil {
				failed <- err
			}
		}()
	}
	wait(ctx, c.phase)
	measured.busy = residentBytes("self")
	for _, n := range cluster.Nodes {
		measured.nodes = append(measured.nodes, node{n.Name, residentBytes(fmt.Sprint(n.PID()))})
	}
	measured.killed = time.Since(start)
	if err := cluster.Nodes[0].Kill(); err != nil {
		return nil, err
	}
	wait(ctx, c.phase/2)
	if c.restart {
		if err := cluster.Nodes[0].Start(); err != nil {
			return nil, err
		}
		measured.restarted = time.Since(start)
	}
	wait(ctx, c.phase-c.phase/2)
	measured.to = time.Since(start)
	enough()
	publishers.Wait()
	for _, d := range devices {
		measured.ackedInTime += d.client.Stats().Acked
	}
	ending, cancelEnding := context.WithTimeout(ctx, c.patience)
	defer cancelEnding()
	for _, d := range devices {
		if err := d.client.Drain(ending); err != nil {
			return nil, fmt.Errorf("%s: %w", d.name, err)
		}
	}
	for _, d := range devices {
		measured.published += d.published.Load()
	}
	w.await(ctx, measured.published)
	measured.count(devices, w)
	select {
	case err := <-failed:
		return measured, err
	default:
	}
	return measured, measured.verdict()
}

// connected waits until all are.
func connected(ctx context.Context, devices []*device) error {
	for {
		missing := 0
		var last mqtt.Status
		for _, d := range devices {
			if s := d.client.Status(); !s.Connected {
				missing++
				last = s
			}
		}
		if missing == 0 {
			return nil
		}
		wait(ctx, 50*time.Millisecond)
		if ctx.Err() != nil {
			return fmt.Errorf("%d of %d devices have no session (%s): %w", missing, len(devices), last.Error, ctx.Err())
		}
	}
}

// await waits until all have arrived, or none has for as long as the cluster has
// before it sends one again, and half of that.
func (w *watcher) await(ctx context.Context, all int64) {
	const again = 90 * time.Second
	for last, since := int64(-1), time.Now(); w.arrived.Load() < all && ctx.Err() == nil; {
		if n := w.arrived.Load(); n != last {
			last, since = n, time.Now()
		} else if time.Since(since) > again {
			return
		}
		wait(ctx, 50*time.Millisecond)
	}
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
