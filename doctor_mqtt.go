package main

import (
	"fmt"
	"strings"

	"github.com/sightd/sightd/daemon"
	"github.com/sightd/sightd/mqtt"
)

// mqtt looks at the files that mqtt names, what a daemon says of them at its
// start, and unless offline has a session with each broker.
func (d *doctor) mqtt(cfg *daemon.Config, offline bool) {
	const name = "mqtt"
	if cfg == nil {
		return
	}
	warnings := cfg.Warnings()
	o := cfg.MQTTOptions()
	if o.URL != "" {
		more, err := o.Check()
		if err != nil {
			d.add(name, checkMissing, err.Error(), "correct mqtt in the configuration, or the file that it names; run the doctor as the service's user")
			return
		}
		warnings = append(warnings, more...)
	}
	switch {
	case len(warnings) > 0:
		d.add(name, checkWarning, strings.Join(warnings, "; "), "as it says")
	case o.URL != "":
		d.add(name, checkOK, "the files that it names can be read", "")
	case cfg.MQTT.Embedded != "":
		d.add(name, checkOK, "the embedded broker, at "+cfg.MQTT.Embedded, "")
	default:
		d.add(name, checkNone, "mqtt.url isn't set, so nothing is published", "")
	}
	if o.URL != "" && !offline {
		d.brokers(o)
	}
}

func (d *doctor) brokers(o mqtt.Options) {
	const name = "broker"
	trials, err := mqtt.Try(d.ctx, o)
	if err != nil {
		d.add(name, checkMissing, err.Error(), "")
		return
	}
	for _, t := range trials {
		if t.Error != "" {
			// A daemon starts without, and tries again.
			d.add(name, checkWarning, fmt.Sprintf("%s: %s", t.Broker, t.Error), "as it says; docs/operating.md has a list of causes")
			continue
		}
		d.add(name, checkOK, fmt.Sprintf("%s takes a session of %s; what its access list allows shows only when something is published", t.Broker, t.ClientID), "")
	}
}
