package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// CheckConfig is LoadConfig for who is about to start a daemon. It also finds what
// a daemon refuses then, or can't use, as far as the configuration tells and the
// files that it names; nothing is written or connected to. Warnings are about what
// works, but not as it looks.
func CheckConfig(path string, environ []string) (warnings []string, err error) {
	c, doc, err := loadConfig(path, environ)
	if err != nil {
		return nil, err
	}
	if len(c.Models) == 0 {
		doc.Errorf("models", "%v", errNoModel)
	}
	for i, m := range c.Models {
		if m.Release == "" {
			continue
		}
		if _, err := os.Stat(m.Release); err != nil {
			doc.Errorf(fmt.Sprintf("models[%d].release", i), "%v", err)
		}
	}
	warnings = c.Warnings()
	o := c.clientOptions()
	if len(o.Faults()) == 0 {
		for _, f := range o.FileFaults() {
			doc.Errorf(f.Key, "%v%s", f.Err, credentialHint(f.Err, path, environ))
		}
		if more, err := o.Check(); err == nil {
			warnings = append(warnings, more...)
		}
	}
	return warnings, doc.Err()
}

// credentialHint is for a missing file that may be a credential of the service,
// which the service alone sees.
func credentialHint(err error, config string, environ []string) string {
	var missing *fs.PathError
	dir, _ := filepath.Abs(filepath.Dir(config))
	if !errors.As(err, &missing) || !errors.Is(err, fs.ErrNotExist) || filepath.Dir(missing.Path) != dir ||
		slices.ContainsFunc(environ, func(e string) bool { return strings.HasPrefix(e, credentialsVariable) }) {
		return ""
	}
	return "; where it is a credential of the service (LoadCredential=), set CREDENTIALS_DIRECTORY to the folder that it is loaded from"
}

var errNoModel = errors.New("the configuration has no model: add one under models")

// Warnings are about keys that have no effect, or another than they seem to.
func (c *Config) Warnings() (all []string) {
	m := &c.MQTT
	if len(m.URL) > 0 && m.Embedded != "" {
		all = append(all, fmt.Sprintf("mqtt.embedded: a broker listens at %s without a login, and nothing is published to it, since mqtt.url names another: leave one of the two out", m.Embedded))
	}
	if len(m.URL) > 0 || m.Embedded != "" {
		return all
	}
	if m.HomeAssistant {
		all = append(all, "mqtt.home_assistant: there is no broker to tell Home Assistant by: set mqtt.url")
	}
	if len(m.Commands) > 0 {
		all = append(all, "mqtt.commands: there is no broker to send commands by: set mqtt.url")
	}
	return all
}
