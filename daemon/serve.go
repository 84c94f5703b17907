package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/sightd/sightd/camera"
	"github.com/sightd/sightd/mqtt"
	"github.com/sightd/sightd/ort"
	"github.com/sightd/sightd/release"
)

// newClient makes the MQTT client, to the embedded broker where no other is
// named.
func (d *Daemon) newClient() error {
	o := d.cfg.MQTTOptions()
	if o.URL == "" && d.broker != nil {
		o.URL = d.broker.URL()
	}
	d.say = silent{}
	for _, w := range d.cfg.Warnings() {
		d.log.Warn(w)
	}
	if o.URL == "" {
		d.log.Warn("mqtt.url is not set, so nothing is published")
		return nil
	}
	o.Log = d.log
	o.Commands, o.CommandDir, o.Clock = d.commands(), d.commandDir(), d.clockSet
	if w := d.unheeded(); w != "" {
		d.log.Warn(w)
	}
	var err error
	if d.outbox, err = d.openOutbox(); err != nil {
		return err
	}
	o.Outbox = d.outbox
	client, err := mqtt.New(o)
	if err != nil {
		return err
	}
	d.client, d.say = client, client
	return nil
}

// unheeded says why no command is obeyed that the configuration allows; empty: they
// are.
func (d *Daemon) unheeded() string {
	if len(d.cfg.MQTT.Commands) == 0 {
		return ""
	}
	if err := d.clockSet(); err != nil {
		return fmt.Sprintf("mqtt.commands: none is obeyed until the clock is set: %v", err)
	}
	return ""
}

// MQTTOptions are the brokers of the configuration, and how this device is known
// there; URL is empty where it names none.
func (c *Config) MQTTOptions() mqtt.Options {
	m := &c.MQTT
	o := mqtt.Options{
		Username: m.Username, PasswordFile: m.PasswordFile,
		CAFile: m.CAFile, CertFile: m.CertFile, KeyFile: m.KeyFile,
		Prefix: m.Prefix, Device: c.Device,
	}
	if len(m.URL) > 0 {
		o.URL, o.Others = m.URL[0], m.URL[1:]
	}
	return o
}

// maxMemoryOutbox bounds the outbox where it lives in memory alone.
const maxMemoryOutbox = 16 << 20

func (d *Daemon) openOutbox() (*mqtt.Outbox, error) {
	c := d.cfg.MQTT.Outbox
	l := mqtt.Limits{MaxBytes: int64(c.MaxBytes), MaxAge: time.Duration(c.MaxAge), Clock: d.clockSet}
	if c.Durability == string(mqtt.Memory) {
		l.MaxBytes = min(l.MaxBytes, maxMemoryOutbox)
	}
	return mqtt.OpenOutbox(filepath.Join(d.cfg.StateDir, "outbox.db"), l, mqtt.Durability(c.Durability), d.log)
}

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

// healthEvery is how often health is published and systemd's status line
// renewed.
const healthEvery = 30 * time.Second

// tell publishes health at once and then every 30 s until ctx ends.
func (d *Daemon) tell(ctx context.Context) {
	tick := time.NewTicker(healthEvery)
	defer tick.Stop()
	last, since := d.Status(), time.Now()
	for {
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
		last, since = s, time.Now()
		if !d.lines(ctx, tick.C) {
			return
		}
	}
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

func releaseText(id release.ID) string {
	if id == (release.ID{}) {
		return ""
	}
	return id.String()
}
