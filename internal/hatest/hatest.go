// Package hatest checks what is published for Home Assistant, for tests: against
// the rules that it publishes, which Check has; against its own code, where a
// Python has that ([Validate]); and its templates with Jinja ([Render]).
//
// The rules are those of Home Assistant 2026.11.0, from homeassistant/components/mqtt
// of https://github.com/home-assistant/core: schemas.py and discovery.py for the
// message, entity.py for availability, sensor.py, binary_sensor.py, update.py and
// config.py for the entities, abbreviations.py; and
// https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload. Check is
// narrower where sightd can do with less: it knows the platforms, abbreviations and
// classes that sightd uses, and takes no key that Home Assistant would ignore.
package hatest

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// An Entity is what a message says of one, with the long names of its keys.
type Entity map[string]any

// Text is the value of a key; empty where it has none.
func (e Entity) Text(key string) string {
	s, _ := e[key].(string)
	return s
}

// Removed tells whether the message removes the entity.
func (e Entity) Removed() bool { return len(e) == 1 }

// A Message is a device discovery.
type Message struct {
	Device       map[string]any
	Origin       map[string]any
	Availability []any
	Entities     map[string]Entity
}

var (
	topicRule = regexp.MustCompile(`^homeassistant/device/([a-zA-Z0-9_-]+/)?[a-zA-Z0-9_-]+/config$`)
	idRule    = regexp.MustCompile(`^[a-zA-Z0-9_-]+$`) // as that of a topic, which a component's id becomes a part of
	urlRule   = regexp.MustCompile(`^(https?|homeassistant)://[^/]+`)
	iconRule  = regexp.MustCompile(`^[a-z]+:[a-z0-9-]+$`)
)

var abbreviations = map[string]string{
	"dev": "device", "o": "origin", "cmps": "components", "avty": "availability", "t": "topic",
	"pl_avail": "payload_available", "pl_not_avail": "payload_not_available",
	"p": "platform", "uniq_id": "unique_id", "dev_cla": "device_class", "ent_cat": "entity_category", "ic": "icon",
	"stat_t": "state_topic", "val_tpl": "value_template", "stat_cla": "state_class", "unit_of_meas": "unit_of_measurement",
	"sug_dsp_prc": "suggested_display_precision", "pl_on": "payload_on", "pl_off": "payload_off", "tit": "title",
	"json_attr_t": "json_attributes_topic", "json_attr_tpl": "json_attributes_template",
}

var (
	deviceAbbreviations = map[string]string{"ids": "identifiers", "mf": "manufacturer", "mdl": "model", "sw": "sw_version"}
	originAbbreviations = map[string]string{"sw": "sw_version", "url": "support_url"}
)

func expand(m map[string]any, names map[string]string) map[string]any {
	out := map[string]any{}
	for k, v := range m {
		if long, ok := names[k]; ok {
			k = long
		}
		out[k] = v
	}
	return out
}

// Check reads a message as Home Assistant does and says which rule it breaks.
func Check(topic string, payload []byte) (*Message, error) {
	if !topicRule.MatchString(topic) {
		return nil, fmt.Errorf("topic %q: wanted homeassistant/device/[NODE/]OBJECT/config", topic)
	}
	var raw map[string]any
	if err := json.Unmarshal(payload, &raw); err != nil {
		return nil, err
	}
	raw = expand(raw, abbreviations)
	for key := range raw {
		if !slices.Contains([]string{"device", "origin", "components", "availability"}, key) {
			return nil, fmt.Errorf("key %s: the whole message is refused", key)
		}
	}
	m := &Message{Entities: map[string]Entity{}}
	if err := m.head(raw); err != nil {
		return nil, err
	}
	components, ok := raw["components"].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("components: found %v, wanted an object", raw["components"])
	}
	for id, c := range components {
		short, ok := c.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("component %s: found %v, wanted an object", id, c)
		}
		e := Entity(expand(short, abbreviations))
		if !idRule.MatchString(id) {
			return nil, fmt.Errorf("component %q: wanted letters, digits, _ and - alone", id)
		}
		if err := e.check(); err != nil {
			return nil, fmt.Errorf("component %s: %w", id, err)
		}
		m.Entities[id] = e
	}
	return m, nil
}

func (m *Message) head(raw map[string]any) error {
	var ok bool
	if m.Device, ok = raw["device"].(map[string]any); !ok {
		return fmt.Errorf("device: found %v, wanted an object", raw["device"])
	}
	if m.Origin, ok = raw["origin"].(map[string]any); !ok {
		return fmt.Errorf("origin: found %v, wanted an object", raw["origin"])
	}
	m.Device, m.Origin = expand(m.Device, deviceAbbreviations), expand(m.Origin, originAbbreviations)
	ids, _ := m.Device["identifiers"].([]any)
	if len(ids) == 0 {
		return fmt.Errorf("device: no identifiers")
	}
	for _, id := range ids {
		if _, ok := id.(string); !ok {
			return fmt.Errorf("device: identifier %v is no text", id)
		}
	}
	for key, v := range m.Device {
		_, text := v.(string)
		if key != "identifiers" && (!text || !slices.Contains([]string{"name", "manufacturer", "model", "sw_version"}, key)) {
			return fmt.Errorf("device: %s is %v", key, v)
		}
	}
	for key, v := range m.Origin {
		if _, text := v.(string); !text || !slices.Contains([]string{"name", "sw_version", "support_url"}, key) {
			return fmt.Errorf("origin: %s is %v", key, v)
		}
	}
	if m.Origin["name"] == nil {
		return fmt.Errorf("origin: no name")
	}
	if url, has := m.Origin["support_url"].(string); has && !urlRule.MatchString(url) {
		return fmt.Errorf("origin: support_url is %q", url)
	}
	if m.Availability, ok = raw["availability"].([]any); !ok {
		return fmt.Errorf("availability: found %v, wanted a list", raw["availability"])
	}
	return available(m.Availability)
}

func available(list []any) error {
	for i, a := range list {
		one, _ := a.(map[string]any)
		one = expand(one, abbreviations)
		list[i] = one
		for key, v := range one {
			if _, text := v.(string); !text || !slices.Contains([]string{"topic", "payload_available", "payload_not_available", "value_template"}, key) {
				return fmt.Errorf("availability: %s is %v", key, v)
			}
		}
		topic, _ := one["topic"].(string)
		if err := checkTopic(topic); err != nil {
			return fmt.Errorf("availability: %w", err)
		}
	}
	return nil
}

// common are the keys of every entity, and whether each has to be there.
var common = map[string]bool{
	"platform": true, "unique_id": true, "state_topic": true, "name": false, "value_template": false,
	"device_class": false, "entity_category": false, "icon": false, "availability": false,
	"json_attributes_topic": false, "json_attributes_template": false,
}

// Of each platform: the keys that it has beside those, and its device classes with
// their units.
var platforms = map[string]struct {
	keys    []string
	classes map[string][]string
}{
	"sensor": {
		[]string{"state_class", "unit_of_measurement", "suggested_display_precision"},
		map[string][]string{"": nil, "temperature": {"°C", "°F", "K"}},
	},
	"binary_sensor": {[]string{"payload_on", "payload_off"}, map[string][]string{"": nil, "connectivity": nil, "problem": nil}},
	"update":        {[]string{"title"}, map[string][]string{"": nil}},
}

func (e Entity) check() error {
	rules, ok := platforms[e.Text("platform")]
	if !ok {
		return fmt.Errorf("platform is %v", e["platform"])
	}
	if e.Removed() {
		return nil
	}
	for key, must := range common {
		if _, there := e[key]; must && !there {
			return fmt.Errorf("no %s", key)
		}
	}
	for key, v := range e {
		if _, ok := common[key]; !ok && !slices.Contains(rules.keys, key) {
			return fmt.Errorf("key %s isn't one of a %s", key, e.Text("platform"))
		}
		if err := checkValue(key, v); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	units, ok := rules.classes[e.Text("device_class")]
	if unit := e.Text("unit_of_measurement"); !ok || units != nil && !slices.Contains(units, unit) {
		return fmt.Errorf("device_class %q with the unit %q", e.Text("device_class"), unit)
	}
	if e["json_attributes_template"] != nil && e["json_attributes_topic"] == nil {
		return fmt.Errorf("json_attributes_template without a topic")
	}
	if c := e.Text("entity_category"); c == "config" && e.Text("platform") != "update" {
		return fmt.Errorf("entity_category config: that of entities that are set") // entity.py refuses it for what is read
	}
	return nil
}

func checkValue(key string, v any) error {
	text, isText := v.(string)
	n, isNumber := v.(float64)
	ok := isText
	switch key {
	case "suggested_display_precision":
		ok = isNumber && n >= 0 && n == float64(int(n))
	case "availability":
		list, isList := v.([]any)
		if isList {
			return available(list)
		}
		ok = false
	case "state_topic", "json_attributes_topic":
		return checkTopic(text)
	case "entity_category":
		ok = slices.Contains([]string{"config", "diagnostic"}, text)
	case "state_class":
		ok = slices.Contains([]string{"measurement", "total", "total_increasing"}, text)
	case "icon":
		ok = iconRule.MatchString(text)
	case "unique_id", "name":
		ok = isText && text != ""
	}
	if !ok {
		return fmt.Errorf("found %v", v)
	}
	return nil
}

// checkTopic has the rules of util.py's valid_topic; a wildcard is none of sightd's.
func checkTopic(topic string) error {
	bad := func(r rune) bool {
		return unicode.IsControl(r) || r >= 0xfdd0 && r <= 0xfdef || r&0xfffe == 0xfffe
	}
	if topic == "" || len(topic) > 65535 || !utf8.ValidString(topic) || strings.ContainsAny(topic, "+#") || strings.ContainsFunc(topic, bad) {
		return fmt.Errorf("topic %q", topic)
	}
	return nil
}
