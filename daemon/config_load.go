package daemon

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/sightd/sightd/internal/strict"
)

const maxConfig = 1 << 20

// otherVariables start with SIGHTD_ and are no keys of the configuration; the last
// rules the double that stands in for TensorRT in tests.
var otherVariables = []string{"SIGHTD_ONNXRUNTIME", "SIGHTD_TENSORRT", "SIGHTD_TRT_DOUBLE"}

// LoadConfig reads a configuration: defaults, the file over them, and the
// variables of environ (NAME=VALUE) that start with SIGHTD_ over that, such as
// SIGHTD_MQTT_URL. Names are filled in, relative paths resolved, and everything
// checked but the files that it names; the error lists every fault with its line
// and column.
func LoadConfig(path string, environ []string) (*Config, error) {
	c, doc, err := loadConfig(path, environ)
	if err != nil {
		return nil, err
	}
	if err := doc.Err(); err != nil {
		return nil, err
	}
	return c, nil
}

func loadConfig(path string, environ []string) (*Config, *strict.Document, error) {
	data, err := strict.ReadFile(path, maxConfig)
	if err != nil {
		return nil, nil, fmt.Errorf("read the configuration: %w", err)
	}
	c, doc, err := parseConfig(path, data, environ)
	if err != nil {
		return nil, nil, err
	}
	device, err := thisMachine.expand(c.Device)
	if err != nil {
		doc.Errorf("device", "%v", err)
	} else {
		c.Device = device
	}
	c.validate(doc)
	c.credentials(environ)
	c.resolve(filepath.Dir(path))
	return c, doc, nil
}

// parseConfig reads what is written, over the defaults. Faults of single keys
// are in the document.
func parseConfig(name string, data []byte, environ []string) (*Config, *strict.Document, error) {
	doc, err := strict.YAML(name, data, maxConfig)
	if err != nil {
		return nil, nil, err
	}
	c := DefaultConfig()
	doc.Override(environ, "SIGHTD", otherVariables, c, maxConfig)
	doc.Decode(c)
	return c, doc, nil
}

const credentialsVariable = "CREDENTIALS_DIRECTORY="

// credentials finds the secrets that systemd hands over: a name without a slash
// is that of a credential of the service (LoadCredential=) where it has one
// with it.
func (c *Config) credentials(environ []string) {
	dir := ""
	for _, entry := range environ {
		if d, ok := strings.CutPrefix(entry, credentialsVariable); ok {
			dir = d
		}
	}
	if !filepath.IsAbs(dir) {
		return
	}
	m := &c.MQTT
	for _, p := range []*string{&m.PasswordFile, &m.CAFile, &m.CertFile, &m.KeyFile} {
		if *p == "" || *p == "." || *p == ".." || strings.Contains(*p, "/") {
			continue
		}
		if _, err := os.Lstat(filepath.Join(dir, *p)); err == nil {
			*p = filepath.Join(dir, *p)
		}
	}
}

// resolve makes paths absolute that are relative to the configuration in dir,
// and fills in what depends on others.
func (c *Config) resolve(dir string) {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	paths := []*string{
		&c.StateDir, &c.MQTT.PasswordFile, &c.MQTT.CAFile, &c.MQTT.CertFile, &c.MQTT.KeyFile,
		&c.Releases.Inbox, &c.ControlSocket,
	}
	for i := range c.Models {
		paths = append(paths, &c.Models[i].Release)
	}
	for i := range c.Releases.Keys {
		paths = append(paths, &c.Releases.Keys[i].File)
	}
	for _, p := range paths {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
	if c.Releases.Inbox == "" {
		c.Releases.Inbox = filepath.Join(c.StateDir, "inbox")
	}
	if c.ControlSocket == "" {
		c.ControlSocket = defaultSocket(c.StateDir, "/run/sightd")
	}
}

// defaultSocket is below runDir where that is a directory, which the unit makes.
func defaultSocket(stateDir, runDir string) string {
	if info, err := os.Stat(runDir); err == nil && info.IsDir() {
		return filepath.Join(runDir, "control.sock")
	}
	return filepath.Join(stateDir, "control.sock")
}

// YAML writes the configuration as a sightd.yaml.
func (c *Config) YAML() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(c); err != nil {
		return nil, err
	}
	return yaml.JSONToYAML(b.Bytes())
}

// machine is where the names of this machine come from.
type machine struct {
	hostname func() (string, error)
	readFile func(path string) ([]byte, error)
}

var thisMachine = machine{os.Hostname, os.ReadFile}

// expand fills {hostname}, {machine-id} and {serial} into a device's name.
func (m machine) expand(name string) (string, error) {
	out := ""
	for {
		before, rest, found := strings.Cut(name, "{")
		out += before
		if !found {
			return out, nil
		}
		key, after, closed := strings.Cut(rest, "}")
		if !closed {
			return "", fmt.Errorf("found %q without a closing brace", "{"+rest)
		}
		var value string
		var err error
		switch key {
		case "hostname":
			value, err = m.hostname()
		case "machine-id":
			value, err = m.first("/etc/machine-id", "/var/lib/dbus/machine-id")
		case "serial":
			value, err = m.first("/proc/device-tree/serial-number", "/sys/class/dmi/id/product_serial")
		default:
			return "", fmt.Errorf("found {%s}, wanted {hostname}, {machine-id} or {serial}", key)
		}
		if err == nil && value == "" {
			err = fmt.Errorf("it is empty")
		}
		if err != nil {
			return "", fmt.Errorf("this machine has no {%s}: %w; write a name instead", key, err)
		}
		out, name = out+value, after
	}
}

// first is the content of the first file that can be read.
func (m machine) first(paths ...string) (string, error) {
	var first error
	for _, path := range paths {
		b, err := m.readFile(path)
		if err == nil {
			return strings.Trim(string(b), " \x00\r\n\t"), nil
		}
		if first == nil {
			first = err
		}
	}
	return "", first
}
