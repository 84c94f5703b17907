package main

import (
	"strings"

	"github.com/sightd/sightd/daemon"
)

// mqtt looks at the files that mqtt names: what a daemon says of them at its
// start. It connects nothing.
func (d *doctor) mqtt(cfg *daemon.Config) {
	if cfg == nil || len(cfg.MQTT.URL) == 0 {
		return
	}
	o := cfg.MQTTOptions()
	warnings, err := o.Check()
	switch {
	case err != nil:
		d.add("mqtt", checkMissing, err.Error(), "correct mqtt in the configuration, or the file that it names; run the doctor as the service's user")
	case len(warnings) > 0:
		d.add("mqtt", checkWarning, strings.Join(warnings, "; "), "as it says")
	default:
		d.add("mqtt", checkOK, "the files that it names can be read", "")
	}
}
