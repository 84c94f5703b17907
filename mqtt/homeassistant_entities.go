package mqtt

import "strings"

// The templates are Jinja's, as Home Assistant renders them: value is a topic's
// payload, value_json what it holds as JSON. What gives "None" is not known.

const (
	// A state has 255 characters at most; a label may have more.
	haLabel = `{{ value[:255] }}`

	haOnline      = `{{ 'ON' if value == 'online' else 'OFF' }}`
	haDegraded    = `{{ 'ON' if value_json.degraded is defined else 'OFF' }}`
	haTemperature = `{{ value_json.temperatures.values() | max | default('None', true) }}`
	haZones       = `{{ value_json.temperatures | tojson }}`
	haWaiting     = `{{ value_json.outbox.queued }}`
	haLost        = `{{ value_json.drops.events.values() | sum }}`
	haDrops       = `{{ value_json.drops.events | tojson }}`

	// haRate is a camera's; the first health has none. %s is the camera as a string of Jinja.
	haRate = `{{ (value_json.rates[%s] | default({})).classified | default('None') }}`

	// haUpdate makes of a release's state what the update entity takes, and nothing
	// else: other keys are refused. What was rejected is no update. What isn't said
	// stays as it was, as what is installed while nothing serves.
	haUpdate = `{% set r = value_json %}` +
		`{% set new = r.release ~ ('.' ~ r.revision if r.revision is defined else '') %}` +
		`{% set old = r.serving | default('') ~ ('.' ~ r.serving_revision if r.serving_revision is defined else '') %}` +
		`{% set refused = r.state in ('rejected', 'rolled back') %}` +
		`{% set busy = r.phase is defined and not refused and new != old %}` +
		`{{ dict({'latest_version': old if refused and old else new, 'release_summary': r.reason | default(''), 'in_progress': busy, ` +
		`'update_percentage': (r.progress * 100) | round | int if busy and r.progress is defined else none}, ` +
		`**({'installed_version': old} if old else {})) | tojson }}`
)

// Diagnostic entities aren't shown among those that matter every day.
const haDiagnostic = "diagnostic"

// deviceComponents are the entities of the device and its models.
func (c *Client) deviceComponents(h HomeAssistant) map[string]haComponent {
	health, none, zero := c.Topic(TopicHealth), []haAvailability{}, 0
	all := map[string]haComponent{
		"online": {
			Platform: "binary_sensor", Name: "Connection", Class: "connectivity", Category: haDiagnostic,
			State: c.Topic(TopicStatus), On: Online, Off: Offline, Available: &none, // else it were unknown and not off
		},
		"degraded": {
			Platform: "binary_sensor", Name: "Degraded", Class: "problem", Category: haDiagnostic,
			State: health, Template: haDegraded,
		},
		"waiting": {
			Platform: "sensor", Name: "Waiting events", Category: haDiagnostic, Icon: "mdi:tray-full",
			State: health, Template: haWaiting, StateClass: "measurement", Unit: "events", Precision: &zero,
		},
		"lost": {
			Platform: "sensor", Name: "Lost events", Category: haDiagnostic, Icon: "mdi:tray-remove",
			State: health, Template: haLost, StateClass: "total_increasing", Unit: "events", Precision: &zero,
			Attributes: health, AttributesTemplate: haDrops,
		},
	}
	if h.Temperature {
		one := 1
		all["temperature"] = haComponent{
			Platform: "sensor", Name: "Highest temperature", Class: "temperature", Category: haDiagnostic,
			State: health, Template: haTemperature, StateClass: "measurement", Unit: "°C", Precision: &one,
			Attributes: health, AttributesTemplate: haZones,
		}
	}
	for _, m := range h.Models {
		all["update_"+haID(m)] = haComponent{
			Platform: "update", Name: m + " release", Title: m, Category: haDiagnostic,
			State: c.Topic(TopicRelease(m)), Template: haUpdate,
		}
	}
	return c.identified(all)
}

// cameraComponents are a camera's entities.
func (c *Client) cameraComponents(cam HomeAssistantCamera) map[string]haComponent {
	one := 1
	all := map[string]haComponent{
		"camera_" + haID(cam.Name): {
			Platform: "binary_sensor", Name: cam.Name + " camera", Class: "connectivity", Category: haDiagnostic,
			State: c.Topic(TopicCameraStatus(cam.Name)), Template: haOnline,
		},
		"rate_" + haID(cam.Name): {
			Platform: "sensor", Name: cam.Name + " classified frames", Category: haDiagnostic, Icon: "mdi:speedometer",
			State: c.Topic(TopicHealth), Template: strings.Replace(haRate, "%s", jinjaString(cam.Name), 1),
			StateClass: "measurement", Unit: "frames/s", Precision: &one,
		},
	}
	for _, m := range cam.Models {
		all["label_"+haID(cam.Name+"/"+m)] = haComponent{
			Platform: "sensor", Name: cam.Name + " " + m, Icon: "mdi:image-search",
			State: c.Topic(TopicClassification(cam.Name, m)), Template: haLabel,
			Attributes: c.Topic(TopicAttributes(cam.Name, m)),
		}
	}
	return c.identified(all)
}

// identified gives components their ids in Home Assistant's registry, where
// renamed entities and their histories stay with them.
func (c *Client) identified(all map[string]haComponent) map[string]haComponent {
	for id, component := range all {
		component.UniqueID = c.Topic(id)
		all[id] = component
	}
	return all
}

// jinjaString is a string of Jinja, which has Python's escapes.
func jinjaString(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}
