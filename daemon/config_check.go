package daemon

import (
	"fmt"
	"net"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/sightd/sightd/camera"
	"github.com/sightd/sightd/internal/strict"
	"github.com/sightd/sightd/mqtt"
	"github.com/sightd/sightd/release"
)

// A camera's name is a topic, a label of metrics and part of a path.
var cameraName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// reservedNames stand beside the cameras in the device's topics.
var reservedNames = []string{"status", "health", "inbox", "releases", "command"}

func (c *Config) validate(doc *strict.Document) {
	if c.StateDir == "" {
		doc.Errorf("state_dir", "found nothing, wanted a directory")
	}
	c.checkModels(doc)
	c.checkCameras(doc)
	oneOf(doc, "inference.backend", c.Inference.Backend, "auto", "tensorrt", "ort")
	between(doc, "inference.threads", c.Inference.Threads, 0, 1024)
	oneOf(doc, "inference.quantization", c.Inference.Quantization, "auto", "implicit", "explicit")
	oneOf(doc, "inference.optimisation", c.Inference.Optimisation, "auto", "0", "1", "2", "3", "4", "5")
	c.checkEvents(doc)
	c.checkMQTT(doc)
	c.checkReleases(doc)
	checkListen(doc, "http.listen", c.HTTP.Listen)
}

func (c *Config) checkModels(doc *strict.Document) {
	seen := map[string]int{}
	for i, m := range c.Models {
		at := fmt.Sprintf("models[%d]", i)
		if err := release.CheckName(m.Name); err != nil {
			missingOr(doc, at+".name", m.Name, err.Error())
		} else if first, twice := seen[m.Name]; twice {
			doc.Errorf(at+".name", "%q is the name of models[%d] already", m.Name, first)
		} else {
			seen[m.Name] = i
		}
		oneOf(doc, at+".while_building", m.WhileBuilding, "cpu", "wait")
		if m.Placement != nil {
			p := m.Placement.Over(release.DefaultSpec().Placement)
			p.Validate(doc, at+".placement")
		}
	}
}

func (c *Config) checkCameras(doc *strict.Document) {
	seen := map[string]int{}
	for i, cam := range c.Cameras {
		at := fmt.Sprintf("cameras[%d]", i)
		switch first, twice := seen[cam.Name]; {
		case !cameraName.MatchString(cam.Name):
			missingOr(doc, at+".name", cam.Name, "1 to 64 of A-Z a-z 0-9 . _ -, starting with a letter or digit")
		case slices.Contains(reservedNames, cam.Name):
			doc.Errorf(at+".name", "%q is taken by a topic of the device; wanted another name than %s", cam.Name, strings.Join(reservedNames, ", "))
		case twice:
			doc.Errorf(at+".name", "%q is the name of cameras[%d] already", cam.Name, first)
		default:
			seen[cam.Name] = i
		}
		cam.check(doc, at)
		for j, name := range cam.Models {
			if !slices.ContainsFunc(c.Models, func(m ModelConfig) bool { return m.Name == name }) {
				doc.Errorf(fmt.Sprintf("%s.models[%d]", at, j), "no model is named %q; there %s", name, c.modelNames())
			}
		}
	}
}

func (c *Config) modelNames() string {
	names := make([]string, len(c.Models))
	for i, m := range c.Models {
		names[i] = m.Name
	}
	switch len(names) {
	case 0:
		return "are none under models"
	case 1:
		return "is " + names[0]
	}
	return "are " + strings.Join(names, ", ")
}

func (cam *CameraConfig) check(doc *strict.Document, at string) {
	if err := camera.CheckSource(cam.Source); err != nil {
		doc.Errorf(at+".source", "%s", strings.TrimPrefix(err.Error(), "source ")) // its place says so
	}
	between(doc, at+".width", cam.Width, 0, 16384)
	between(doc, at+".height", cam.Height, 0, 16384)
	if (cam.Width == 0) != (cam.Height == 0) {
		doc.Errorf(at, "found width %d and height %d, wanted both or neither", cam.Width, cam.Height)
	}
	if !(cam.FPS >= 0 && cam.FPS <= 1000) {
		doc.Errorf(at+".fps", "found %v, wanted 0 to 1000", cam.FPS)
	}
	const rounding = 1e-9
	x, y, w, h := cam.Crop[0], cam.Crop[1], cam.Crop[2], cam.Crop[3]
	if !(x >= 0 && y >= 0 && w > 0 && h > 0 && x+w <= 1+rounding && y+h <= 1+rounding) {
		doc.Errorf(at+".crop", "found %v, wanted [x, y, width, height] as shares inside the picture, such as [0.25, 0, 0.5, 1]", cam.Crop)
	}
	if cam.Stall <= 0 {
		doc.Errorf(at+".stall", "found 0, wanted a duration such as 2s")
	}
	oneOf(doc, at+".scale", cam.Scale, "exact", "hardware")
}

func (c *Config) checkEvents(doc *strict.Document) {
	e := &c.Events
	oneOf(doc, "events.mode", e.Mode, "change", "every")
	share(doc, "events.min_score", e.MinScore)
	if !(e.MaxRate >= 0) {
		doc.Errorf("events.max_rate", "found %v, wanted 0 (no limit) or more", e.MaxRate)
	}
	for label, score := range e.Labels.MinScore {
		share(doc, "events.labels.min_score."+label, score)
	}
	for i, label := range e.Labels.Deny {
		if slices.Contains(e.Labels.Allow, label) {
			doc.Errorf(fmt.Sprintf("events.labels.deny[%d]", i), "%q is under allow too", label)
		}
	}
}

// leastOutbox is the least that the outbox may be bounded to: some events of the
// largest size, and what they cost in a file.
const leastOutbox = 1_000_000

func (c *Config) checkMQTT(doc *strict.Document) {
	m := &c.MQTT
	if m.Prefix == "" {
		doc.Errorf("mqtt.prefix", "found %q, wanted the first parts of all topics, such as sightd", m.Prefix)
	}
	o := c.clientOptions()
	for _, f := range o.Faults() {
		doc.Errorf(f.Key, "%v", f.Err)
	}
	oneOf(doc, "mqtt.outbox.durability", m.Outbox.Durability, "always", "outage", "memory")
	if m.Outbox.MaxBytes < leastOutbox {
		doc.Errorf("mqtt.outbox.max_bytes", "found %d bytes, wanted 1MB or more: less holds no events", m.Outbox.MaxBytes)
	}
	if m.Outbox.MaxAge <= 0 {
		doc.Errorf("mqtt.outbox.max_age", "found 0s or less, wanted more, such as 72h")
	}
	for i, name := range m.Commands {
		oneOf(doc, fmt.Sprintf("mqtt.commands[%d]", i), name, "snapshot", "rollback", "recalibrate-collect")
	}
	checkListen(doc, "mqtt.embedded", m.Embedded)
}

// clientOptions are those that an MQTT client gets of a daemon, as far as they are
// to be checked: one for the embedded broker has a URL that is known only when
// that has started, and where there is no broker the names matter alone.
func (c *Config) clientOptions() mqtt.Options {
	o := c.MQTTOptions()
	const embedded = "mqtt://127.0.0.1"
	switch {
	case o.URL != "":
	case c.MQTT.Embedded != "":
		o.URL = embedded
	default:
		o = mqtt.Options{URL: embedded, Prefix: o.Prefix, Device: o.Device}
	}
	return o
}

func (c *Config) checkReleases(doc *strict.Document) {
	r := &c.Releases
	for i, k := range r.Keys {
		at := fmt.Sprintf("releases.keys[%d]", i)
		if k.File == "" {
			doc.Errorf(at, "missing: file, the path of a minisign public key")
		}
		for j, pattern := range k.Names {
			if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
				doc.Errorf(fmt.Sprintf("%s.names[%d]", at, j), "found %q, wanted a pattern with * and ?", pattern)
			}
		}
	}
	for i, id := range r.Revoked {
		if _, err := strconv.ParseUint(id, 16, 64); err != nil || len(id) != 16 {
			doc.Errorf(fmt.Sprintf("releases.revoked[%d]", i), "found %q, wanted a key id of 16 hexadecimal digits", id)
		}
	}
	oneOf(doc, "releases.activate", r.Activate, "auto", "manual", "window")
	oneOf(doc, "releases.build", r.Build, "any", "window")
	oneOf(doc, "releases.memory", r.Memory, "gap", "refuse")
	between(doc, "releases.keep", r.Keep, 0, 1000)
	between(doc, "releases.proof.frames", r.Proof.Frames, 0, 1000)
	for _, budget := range []struct {
		key   string
		times float64
	}{{"latency", r.Proof.Latency}, {"memory", r.Proof.Memory}} {
		if !(budget.times == 0 || budget.times >= 1 && budget.times <= 1000) {
			doc.Errorf("releases.proof."+budget.key, "found %v, wanted how many times as much as the serving release takes, from 1 to 1000, or 0 for any", budget.times)
		}
	}
}

func checkListen(doc *strict.Document, path, address string) {
	if address == "" {
		return
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil || !isPort(port, 0) {
		doc.Errorf(path, "found %q, wanted an address and a port such as 127.0.0.1:8080, or \"\" for none", address)
	}
}

func isPort(s string, least int) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n >= least && n <= 65535
}

func missingOr(doc *strict.Document, path, found, wanted string) {
	if found == "" {
		doc.Errorf(path, "missing: wanted %s", wanted)
		return
	}
	doc.Errorf(path, "found %q, wanted %s", found, wanted)
}

func oneOf(doc *strict.Document, path, found string, allowed ...string) {
	if !slices.Contains(allowed, found) {
		doc.Errorf(path, "found %q, wanted %s", found, strings.Join(allowed, ", "))
	}
}

func between(doc *strict.Document, path string, found, least, most int) {
	if found < least || found > most {
		doc.Errorf(path, "found %d, wanted %d to %d", found, least, most)
	}
}

func share(doc *strict.Document, path string, found float64) {
	if !(found >= 0 && found <= 1) {
		doc.Errorf(path, "found %v, wanted a share from 0 to 1", found)
	}
}
