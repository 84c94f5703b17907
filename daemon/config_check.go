package daemon

import (
	"fmt"
	"net"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/sightd/sightd/internal/strict"
	"github.com/sightd/sightd/release"
)

// A camera's name is a topic, a label of metrics and part of a path.
var cameraName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// reservedNames stand beside the cameras in the device's topics.
var reservedNames = []string{"status", "health", "releases", "command"}

var sourceSchemes = []string{"v4l2:", "csi:", "rtsp://", "rtsps://", "file:", "images:", "gst:", "test:"}

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
	if !slices.ContainsFunc(sourceSchemes, func(s string) bool {
		return strings.HasPrefix(cam.Source, s) && len(cam.Source) > len(s)
	}) {
		missingOr(doc, at+".source", strict.Mask(cam.Source), "one that starts with "+strings.Join(sourceSchemes, ", ")+
			", and what follows it, such as v4l2:/dev/video0")
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

func (c *Config) checkMQTT(doc *strict.Document) {
	m := &c.MQTT
	for i, raw := range m.URL {
		at := "mqtt.url"
		if len(m.URL) > 1 {
			at = fmt.Sprintf("mqtt.url[%d]", i)
		}
		checkBroker(doc, at, raw)
		if first := slices.Index(m.URL, raw); first < i {
			doc.Errorf(at, "%q is mqtt.url[%d] already", strict.Mask(raw), first)
		}
	}
	if len(m.URL) > maxBrokers {
		doc.Errorf("mqtt.url", "found %d brokers, wanted at most %d", len(m.URL), maxBrokers)
	}
	if (m.CertFile == "") != (m.KeyFile == "") {
		doc.Errorf("mqtt", "found only one of cert_file and key_file, wanted both or neither")
	}
	if m.Prefix == "" || strings.HasPrefix(m.Prefix, "$") {
		doc.Errorf("mqtt.prefix", "found %q, wanted the first parts of all topics, such as sightd", m.Prefix)
	} else {
		for _, part := range strings.Split(m.Prefix, "/") {
			checkTopicName(doc, "mqtt.prefix", part)
		}
	}
	oneOf(doc, "mqtt.outbox.durability", m.Outbox.Durability, "always", "outage", "memory")
	for i, name := range m.Commands {
		oneOf(doc, fmt.Sprintf("mqtt.commands[%d]", i), name, "snapshot", "rollback", "recalibrate-collect")
	}
	checkListen(doc, "mqtt.embedded", m.Embedded)
}

// maxBrokers is how many the MQTT client takes.
const maxBrokers = 16

func checkBroker(doc *strict.Document, at, raw string) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		doc.Errorf(at, "found %q, wanted a URL such as mqtts://broker:8883", strict.Mask(raw))
	case !slices.Contains([]string{"mqtt", "mqtts", "ws", "wss"}, u.Scheme):
		doc.Errorf(at, "found the scheme %q, wanted mqtt, mqtts, ws or wss, such as mqtts://broker:8883", u.Scheme)
	case u.Hostname() == "":
		doc.Errorf(at, "found no host, wanted a URL such as mqtts://broker:8883")
	case strings.Contains(u.Host, ","):
		doc.Errorf(at, "found the host %q, wanted one host; each of several brokers is a whole URL", u.Host)
	case u.Port() != "" && !isPort(u.Port(), 1):
		doc.Errorf(at, "found port %s, wanted 1 to 65535", u.Port())
	}
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

// checkTopicName checks one level of a topic.
func checkTopicName(doc *strict.Document, path, name string) {
	if name == "" || len(name) > 128 || strings.ContainsAny(name, "/+#") || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		doc.Errorf(path, "found %q, wanted a name that can stand in a topic: not empty, without / + # and control characters", name)
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
