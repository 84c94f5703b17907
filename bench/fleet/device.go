package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sightd/sightd/mqtt"
)

// A device publishes for one camera.
type device struct {
	name   string
	client *mqtt.Client
	outbox *mqtt.Outbox

	mu   sync.Mutex
	sent []sent // by number

	published atomic.Int64
	lost      atomic.Int64 // when the last session was lost, since the fleet's start; 0: never
	back      atomic.Int64 // when there was one again after the first loss
}

// sent is an event and what became of it.
type sent struct {
	at      time.Duration // since the fleet's start
	arrived time.Duration // 0: not yet
	id      string        // as it arrived
}

// newDevice makes the i-th, whose list of brokers starts with the i-th.
func newDevice(c config, i int, urls []string, password string, start time.Time) (*device, error) {
	d := &device{name: fmt.Sprint("hall-", i)}
	first := i % len(urls)
	urls = append(append([]string{}, urls[first:]...), urls[:first]...)
	if c.durability == mqtt.Memory {
		d.outbox = mqtt.NewOutbox(mqtt.Limits{})
	} else {
		var err error
		if d.outbox, err = mqtt.OpenOutbox(filepath.Join(c.dir, d.name+".db"), mqtt.Limits{}, c.durability, nil); err != nil {
			return nil, err
		}
	}
	var err error
	d.client, err = mqtt.New(mqtt.Options{
		URL: urls[0], Others: urls[1:], Device: d.name, Username: d.name, PasswordFile: password, Outbox: d.outbox,
		OnStatus: func(s mqtt.Status) {
			now := int64(time.Since(start))
			switch {
			case s.Connected && d.lost.Load() != 0:
				d.back.CompareAndSwap(0, now)
			case !s.Connected && s.Failures > 0 && s.Error != "stopped":
				d.lost.CompareAndSwap(0, now)
			}
		},
	})
	return d, err
}

// publish goes on until ctx ends.
func (d *device) publish(ctx context.Context, rate float64, start time.Time) error {
	period := time.Duration(float64(time.Second) / rate)
	pause := time.NewTimer(time.Duration(rand.Int64N(int64(period))))
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
		return nil
	}
	tick := time.NewTicker(period)
	defer tick.Stop()
	for n := 1; ; n++ {
		d.mu.Lock()
		d.sent = append(d.sent, sent{at: time.Since(start)})
		d.mu.Unlock()
		d.published.Add(1)
		err := d.client.Publish(mqtt.Event{Data: mqtt.Classification{
			Camera: "cam0",
			Model:  mqtt.Model{Name: "lite0", Release: 17, Engine: "sha256-5d7ce4ec0d8f5a8b8f0fdd6ad9f8c43b"},
			Frame:  mqtt.Frame{Seq: uint64(n), Captured: mqtt.Time{Time: time.Now()}, AgeMS: 42},
			Label:  "person",
			Top: []mqtt.Label{
				{Label: "person", Score: 0.93}, {Label: "bicycle", Index: 1, Score: 0.04}, {Label: "dog", Index: 2, Score: 0.01},
			},
			Latency: mqtt.Latency{Preprocess: mqtt.Millis(400 * time.Microsecond), Infer: mqtt.Millis(3 * time.Millisecond)},
		}})
		if err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// arrive notes event n, and tells whether it came before.
func (d *device) arrive(n int, id string, at time.Duration) (again bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n < 1 || n > len(d.sent) {
		return false, fmt.Errorf("%s: event %d arrived, of %d", d.name, n, len(d.sent))
	}
	s := &d.sent[n-1]
	if s.arrived != 0 {
		if s.id != id {
			return true, fmt.Errorf("%s: event %d came twice, as %s and as %s", d.name, n, s.id, id)
		}
		return true, nil
	}
	s.arrived, s.id = at, id
	return false, nil
}
