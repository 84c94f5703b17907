package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"time"

	"github.com/sightd/sightd/camera"
	"github.com/sightd/sightd/mqtt"
	"github.com/sightd/sightd/ort"
)

// healthEvery is how often health is published and systemd's status line
// renewed.
const healthEvery = 30 * time.Second

// tell publishes health at once and then every 30 s until ctx ends.
func (d *Daemon) tell(ctx context.Context) {
	tick := time.NewTicker(healthEvery)
	defer tick.Stop()
	last, since := d.Status(), time.Now()
	var losses losses
	for more := true; ; more = d.lines(ctx, tick.C) {
		select {
		case <-d.stirred: // all is said here
		default:
		}
		d.noteRetained()
		d.sayTensorRT()
		_ = d.clock.set() // a time server may be away by the time that it matters
		s := d.Status()
		h := health(s, last, time.Since(since))
		for _, u := range d.units {
			if t, ok := u.backend.(*tensorRT); ok {
				h.Versions["tensorrt"], h.Versions["cuda"] = t.info.TensorRT.String(), t.info.CUDA.String()
			}
		}
		b, err := json.Marshal(h)
		if err != nil {
			d.log.Error("write health", "err", err) // a temperature that is no number, say
		} else {
			d.say.SetState(mqtt.TopicHealth, b)
		}
		_ = d.notify.Status(statusLine(s)) // a line for people; the log has all of it
		losses.say(d.log, last.MQTT.Dropped, s.MQTT.Dropped)
		last, since = s, time.Now()
		if !more {
			return // what is said at the end stays at the broker
		}
	}
}

// losses says when events begin to be given up, and when that ends.
type losses struct{ going bool }

func (l *losses) say(log *slog.Logger, before, now map[string]uint64) {
	var lost []any
	for _, cause := range slices.Sorted(maps.Keys(now)) {
		if n := now[cause] - before[cause]; n > 0 {
			lost = append(lost, cause, n)
		}
	}
	switch {
	case len(lost) > 0 && !l.going:
		log.Warn("events are given up", lost...)
	case len(lost) == 0 && l.going:
		log.Info("no more events are given up; health has their numbers")
	}
	l.going = len(lost) > 0
}

// lines renews the status line as builds go on, until it is time for more. It
// is false where ctx ends before.
func (d *Daemon) lines(ctx context.Context, more <-chan time.Time) bool {
	for {
		select {
		case <-d.stirred:
			d.sayTensorRT()
			_ = d.notify.Status(statusLine(d.Status()))
		case <-more:
			return true
		case <-ctx.Done():
			return false
		}
	}
}

// stir has the status line renewed. It never waits.
func (d *Daemon) stir() {
	select {
	case d.stirred <- struct{}{}:
	default:
	}
}

// health is a status as MQTT's health, with the rates since an earlier one.
func health(s, before Status, over time.Duration) mqtt.Health {
	h := mqtt.Health{
		Time:     mqtt.Time{Time: time.Now()},
		Versions: map[string]string{"sightd": s.Version, "go": runtime.Version(), "onnxruntime": ort.Version()},
		Uptime:   s.Uptime,
		Rates:    map[string]mqtt.Rates{},
		Drops:    mqtt.Drops{Frames: map[string]uint64{}, Events: s.MQTT.Dropped},

		Temperatures: temperatures(),
	}
	h.Degraded = degraded(s)
	h.Session = mqtt.SessionHealth{Broker: s.MQTT.Broker, Warnings: s.MQTT.Warnings}
	h.Outbox = mqtt.OutboxHealth{
		Durability: s.MQTT.Durability, Queued: s.MQTT.Queued, Bytes: s.MQTT.Bytes,
		Oldest: s.MQTT.Oldest, Reconnects: s.MQTT.Reconnects, Written: s.MQTT.Written, Error: s.MQTT.OutboxError,
	}
	for i, c := range s.Cameras {
		h.Drops.Frames[c.Name] = c.Dropped
		if over > time.Second {
			h.Rates[c.Name] = mqtt.Rates{
				Captured:   float64(c.Captured-before.Cameras[i].Captured) / over.Seconds(),
				Classified: float64(c.Classified-before.Cameras[i].Classified) / over.Seconds(),
			}
		}
	}
	return h
}

// statusLine is what `systemctl status` shows.
func statusLine(s Status) string {
	online := 0
	for _, c := range s.Cameras {
		if c.State == string(camera.Online) {
			online++
		}
	}
	serving := 0
	for _, m := range s.Models {
		if m.State == modelServing {
			serving++
		}
	}
	line := fmt.Sprintf("%d of %d models serve, %d of %d cameras online", serving, len(s.Models), online, len(s.Cameras))
	if !s.MQTT.Connected {
		line += ", no MQTT session"
	}
	for _, name := range slices.Backward(degraded(s)) {
		line = name + " is degraded; " + line
	}
	for _, m := range s.Models {
		if m.Build != nil && m.Build.NextTry == nil {
			line = fmt.Sprintf("building %s: %s; %s", m.Name, m.Build, line)
		}
		if m.State == modelHeld {
			line = fmt.Sprintf("%s waits for `sightd release activate`; %s", m.Name, line)
		}
	}
	return line
}

// degraded are the models whose releases should be left, with none to go back to.
func degraded(s Status) (names []string) {
	for _, m := range s.Models {
		if m.Degraded {
			names = append(names, m.Name)
		}
	}
	return names
}
