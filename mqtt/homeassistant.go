package mqtt

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"strings"
)

// Home Assistant finds a device by a retained message that names its topics:
// https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload, and,
// as far as the page is silent, homeassistant/components/mqtt/discovery.py and
// schemas.py of its release 2026.11.0.

// discoveryPrefix is the one that Home Assistant listens to unless told otherwise.
const discoveryPrefix = "homeassistant"

// HomeAssistant is what a device shows there.
type HomeAssistant struct {
	Version     string // of sightd
	Hardware    string // the module's name; empty: not known
	Cameras     []HomeAssistantCamera
	Models      []string
	Temperature bool // health has temperatures
}

// HomeAssistantCamera is a camera and the models that look at it.
type HomeAssistantCamera struct {
	Name   string
	Models []string
}

// Discovery is one retained message. Home Assistant makes one device of all that
// name the same device.
type Discovery struct {
	Topic      string // the whole
	device     haDevice
	origin     haOrigin
	available  []haAvailability
	components map[string]haComponent // by their ids: a-z A-Z 0-9 _ -
}

type haDevice struct {
	IDs          []string `json:"ids"`
	Name         string   `json:"name"`
	Manufacturer string   `json:"mf"`
	Model        string   `json:"mdl,omitempty"`
	Version      string   `json:"sw,omitempty"`
}

type haOrigin struct {
	Name    string `json:"name"`
	Version string `json:"sw,omitempty"`
	URL     string `json:"url"`
}

type haAvailability struct {
	Topic        string `json:"t"`
	Available    string `json:"pl_avail"`
	NotAvailable string `json:"pl_not_avail"`
}

// haComponent is an entity. One with Platform alone removes it.
type haComponent struct {
	Platform   string `json:"p"`
	UniqueID   string `json:"uniq_id,omitempty"`
	Name       string `json:"name,omitempty"`
	Class      string `json:"dev_cla,omitempty"`
	Category   string `json:"ent_cat,omitempty"`
	Icon       string `json:"ic,omitempty"`
	State      string `json:"stat_t,omitempty"`
	Template   string `json:"val_tpl,omitempty"`
	StateClass string `json:"stat_cla,omitempty"`
	Unit       string `json:"unit_of_meas,omitempty"`
	Precision  *int   `json:"sug_dsp_prc,omitempty"`
	On         string `json:"pl_on,omitempty"`
	Off        string `json:"pl_off,omitempty"`
	Title      string `json:"tit,omitempty"`

	Attributes         string `json:"json_attr_t,omitempty"`
	AttributesTemplate string `json:"json_attr_tpl,omitempty"`

	// Available is instead of the device's; empty: it always is.
	Available *[]haAvailability `json:"avty,omitempty"`
}

// Platforms are the kinds of the message's entities, by their ids.
func (d *Discovery) Platforms() map[string]string {
	all := make(map[string]string, len(d.components))
	for id, c := range d.components {
		all[id] = c.Platform
	}
	return all
}

// Payload writes the message. gone are entities, as Platforms gave them before,
// that the device has no more: Home Assistant keeps one that is merely left out,
// and removes one of which the message gives nothing but the platform. At most
// MaxGone are named.
func (d *Discovery) Payload(gone map[string]string) []byte {
	all := maps.Clone(d.components)
	for id, platform := range gone {
		if _, there := all[id]; !there {
			all[id] = haComponent{Platform: platform}
		}
	}
	b, err := json.Marshal(map[string]any{"dev": d.device, "o": d.origin, "avty": d.available, "cmps": all})
	if err != nil {
		panic(err) // text and numbers
	}
	return b
}

// MaxGone is how many entities that are gone a message may name.
const MaxGone = 128

// haRoom is what they may take: an id is a level of a topic, and the rest of an
// entry takes less than 48 bytes.
const haRoom = MaxGone * (maxName + 48)

// Discover gives the messages by which Home Assistant finds the device: one,
// unless that were too large. Then each camera has one of its own.
func (c *Client) Discover(h HomeAssistant) []Discovery {
	whole := c.discovery(h, "")
	whole.components = c.deviceComponents(h)
	rest := maps.Clone(whole.components)
	var single []Discovery
	for _, cam := range h.Cameras {
		d := c.discovery(h, "/"+haID(cam.Name))
		d.components = c.cameraComponents(cam)
		maps.Copy(whole.components, d.components)
		single = append(single, d)
	}
	if len(whole.Payload(nil)) <= maxPayload-haRoom {
		return []Discovery{whole}
	}
	whole.components = rest
	return append([]Discovery{whole}, single...)
}

func (c *Client) discovery(h HomeAssistant, below string) Discovery {
	return Discovery{
		Topic: c.discoveryRoot() + below + "/config",
		device: haDevice{
			IDs: []string{c.opts.Prefix + "/" + c.opts.Device}, Name: c.opts.Device,
			Manufacturer: "sightd", Model: h.Hardware, Version: h.Version,
		},
		origin:    haOrigin{Name: "sightd", Version: h.Version, URL: "https://github.com/sightd/sightd"},
		available: []haAvailability{{c.Topic(TopicStatus), Online, Offline}},
	}
}

// discoveryRoot is homeassistant/device/ and the device's name. With a prefix of
// its own, that is part of the name: two sites may have devices of one name.
func (c *Client) discoveryRoot() string {
	name := c.opts.Device
	if c.opts.Prefix != defaultPrefix {
		name = c.opts.Prefix + "/" + name
	}
	return discoveryPrefix + "/device/" + haID(name)
}

// IsDiscovery tells whether a topic is one of this device's for Home Assistant.
func (c *Client) IsDiscovery(topic string) bool {
	return strings.HasPrefix(topic, c.discoveryRoot()+"/") && strings.HasSuffix(topic, "/config")
}

// SetDiscovery is SetState for a topic of Discover, which isn't under PREFIX/DEVICE/.
func (c *Client) SetDiscovery(topic string, payload []byte) { c.SetState(rooted+topic, payload) }

// haID is a name as an id of Home Assistant, which may have a-z, A-Z, 0-9, _ and
// - alone. No two names have the same: one with other characters has their bytes
// as _XX, and so has one that could be taken for such. A long one is cut, and
// ends in a hash, so that it can be a level of a topic.
func haID(name string) string {
	if haPlain.MatchString(name) && !haEscaped.MatchString(name) {
		return name
	}
	var b strings.Builder
	for _, c := range []byte(name) {
		if c != '_' && haPlain.Match([]byte{c}) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "_%02X", c)
		}
	}
	id := b.String()
	if len(id) > maxName {
		sum := sha256.Sum256([]byte(name))
		id = fmt.Sprintf("%s_%X", id[:maxName/2], sum[:16])
	}
	return id
}

var (
	haPlain   = regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)
	haEscaped = regexp.MustCompile(`_[0-9A-F]{2}`)
)
