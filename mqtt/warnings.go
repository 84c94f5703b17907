package mqtt

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"
)

// Check reads what the options name, as [New] does, and says what works but
// needs somebody's hand: secrets that everybody can read, certificates that
// end soon.
func (o *Options) Check() (warnings []string, err error) {
	if _, err := o.check(); err != nil {
		return nil, err
	}
	for _, w := range o.warnings(time.Now()) {
		if w.words != "" {
			warnings = append(warnings, w.words)
		}
	}
	return warnings, nil
}

type warning struct{ about, words string }

// warnings are about the files as they are now; those without words have no
// fault.
func (o *Options) warnings(now time.Time) []warning {
	return []warning{
		{"mqtt.password_file", open(o.PasswordFile, "mqtt.password_file")},
		{"mqtt.key_file", open(o.KeyFile, "mqtt.key_file")},
		{"mqtt.cert_file", ending(o.CertFile, now)},
	}
}

// open says that a secret can be read by everybody.
func open(path, key string) string {
	info, err := os.Stat(path)
	if path == "" || err != nil || info.Mode().Perm()&0o004 == 0 {
		return "" // what can't be read is an error of its own
	}
	return fmt.Sprintf("%s: everybody on this machine can read %s (mode %04o): chmod o= %s", key, path, info.Mode().Perm(), path)
}

// ending says that the client's certificate ends soon: within 30 days, or the
// last quarter of its life if that is less, as for those that are renewed daily.
func ending(path string, now time.Time) string {
	if path == "" {
		return ""
	}
	b, err := readSmall(path, 1<<20)
	if err != nil {
		return ""
	}
	block, _ := pem.Decode(b)
	for rest := b; block != nil && block.Type != "CERTIFICATE"; {
		block, rest = pem.Decode(rest)
	}
	if block == nil {
		return ""
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return ""
	}
	const month = 30 * 24 * time.Hour
	end := c.NotAfter.UTC().Format(time.RFC3339)
	switch left := c.NotAfter.Sub(now); {
	case left <= 0:
		return fmt.Sprintf("mqtt.cert_file: the certificate in %s ended on %s by this device's clock: renew it, or set the clock", path, end)
	case left < min(month, c.NotAfter.Sub(c.NotBefore)/4):
		return fmt.Sprintf("mqtt.cert_file: the certificate in %s ends on %s: put a new one there, it is read for the next session", path, end)
	}
	return ""
}

// look brings the warnings about files up to date.
func (c *Client) look() {
	for _, w := range c.opts.warnings(time.Now()) {
		c.warn(w.about, w.words)
	}
}

// present is the status with the warnings. c.mu is held.
func (c *Client) present() Status {
	s := c.status
	for _, about := range slices.Sorted(maps.Keys(c.warnings)) {
		s.Warnings = append(s.Warnings, c.warnings[about])
	}
	return s
}

// warn has the status say words about something until they are empty, and logs
// what is new.
func (c *Client) warn(about, words string) {
	c.mu.Lock()
	before := c.warnings[about]
	c.warnings[about] = words
	if words == "" {
		delete(c.warnings, about)
	}
	c.mu.Unlock()
	if words != "" && words != before {
		c.log.Warn("mqtt: " + words)
	}
}
