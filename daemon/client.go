package daemon

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/sightd/sightd/mqtt"
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
