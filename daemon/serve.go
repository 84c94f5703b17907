package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/sightd/sightd/camera"
	"github.com/sightd/sightd/mqtt"
	"github.com/sightd/sightd/release"
)

// fresh is how old the last classified frame may be for the daemon to be
// ready.
const fresh = 10 * time.Second

// notReady says why the daemon isn't ready; nothing where it is. Whether the
// network is up is no part of it.
func (d *Daemon) notReady() (why []string) {
	now := monotonic()
	for _, u := range d.units {
		s, last := u.Status(), time.Duration(u.lastFrame.Load())
		switch {
		case s.State == modelBuilding && s.Build != nil:
			why = append(why, fmt.Sprintf("model %s: %s, %s%s", s.Name, s.State, s.Build, prefixed("; ", s.Reason)))
		case s.State != modelServing:
			why = append(why, fmt.Sprintf("model %s: %s%s", s.Name, s.State, prefixed(": ", s.Reason)))
		case last == 0 || now-last > fresh:
			why = append(why, fmt.Sprintf("model %s: no frame was classified in the last %v", s.Name, fresh))
		}
	}
	if d.outbox != nil {
		if s := d.outbox.Stats(); s.Refuses {
			why = append(why, "outbox: it takes no more events"+prefixed(": ", s.Error))
		}
	}
	return why
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

// stuck is how long a runner may give no sign of life: longer than any frame
// takes, shorter than the watchdog.
const stuck = 10 * time.Second

// alive says whether every runner that has begun still goes round. It feeds
// systemd's watchdog, so a hung engine gets the service restarted.
func (d *Daemon) alive() bool {
	now := int64(monotonic())
	for _, u := range d.units {
		select {
		case <-u.runner.ended:
			continue
		default:
		}
		if beat := u.runner.beat.Load(); beat != 0 && now-beat > int64(stuck) {
			return false
		}
	}
	return true
}

// Status returns what the daemon is doing.
func (d *Daemon) Status() Status {
	s := Status{
		Device: d.cfg.Device, Version: d.opts.Version, Started: d.started,
		Uptime: time.Since(d.started).Seconds(), Reasons: d.notReady(),
		Models: []ModelStatus{}, Cameras: []CameraStatus{}, TensorRTErrors: ofTensorRT.failures(),
		MQTT: MQTTStatus{Error: "mqtt.url is not set", Dropped: map[string]uint64{}, Durability: "memory"},
	}
	if d.client != nil {
		m := d.client.Stats()
		s.MQTT = MQTTStatus{
			Connected: m.Connected, Broker: m.Broker, Warnings: m.Warnings, Since: m.Since.UTC(), Error: m.Error, Published: m.Acked,
			Queued: m.Queued, Bytes: m.QueuedBytes, Dropped: m.Dropped, Reconnects: m.Reconnects,
			Durability: string(m.Durability), OutboxError: m.OutboxError, Written: m.Written,
		}
		if !m.Oldest.IsZero() {
			s.MQTT.Oldest = max(0, time.Since(m.Oldest).Seconds()) // the clock may have been set back
		}
		if len(d.cfg.MQTT.Commands) > 0 {
			s.MQTT.Commands = &m.Commands
			if w := d.unheeded(); w != "" {
				s.MQTT.Warnings = append(s.MQTT.Warnings, w)
			}
		}
	}
	if d.inbox != nil {
		in := d.inbox.Status()
		s.Inbox = &in
	}
	s.Ready = len(s.Reasons) == 0
	for _, u := range d.units {
		s.Models = append(s.Models, u.Status())
	}
	for _, v := range d.cameras {
		c := v.camera.Status()
		cs := CameraStatus{
			Name: v.name, State: string(c.State), Reason: c.Reason, Since: c.Since.UTC(),
			Captured: c.Captured, Dropped: c.Dropped, Restarts: c.Restarts, Errors: c.Errors, Labels: []LabelStatus{},
		}
		for _, u := range d.units {
			for i, seen := range u.views {
				if seen.name == v.name {
					cs.Classified += u.watches[i].frames.Load()
					cs.Labels = append(cs.Labels, u.watches[i].Status())
				}
			}
		}
		s.Cameras = append(s.Cameras, cs)
	}
	return s
}

// follow publishes a camera's state as it changes.
func (d *Daemon) follow(ctx context.Context, c view) {
	topic := mqtt.TopicCameraStatus(c.name)
	for {
		d.say.SetState(topic, []byte(publicState(c.camera.Status().State)))
		select {
		case <-c.camera.Changed():
		case <-ctx.Done():
			d.say.SetState(topic, []byte(mqtt.Offline))
			return
		}
	}
}

// publicState is a camera's state as subscribers know it.
func publicState(s camera.State) string {
	switch s {
	case camera.Online:
		return mqtt.Online
	case camera.Stalled:
		return mqtt.Stalled
	}
	return mqtt.Offline
}

func releaseText(id release.ID) string {
	if id == (release.ID{}) {
		return ""
	}
	return id.String()
}
