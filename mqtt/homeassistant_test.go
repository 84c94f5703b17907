package mqtt

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sightd/sightd/internal/hatest"
)

// names are a camera's or device's names, some of which only differ where ids can't.
var names = []string{
	"door", "Door", "back-door", "back_door", "back.door", "back door", "back_2Edoor", "back_5Fdoor", "a__b", "a_.b", "_", "-", "Tür", "門",
	`it's`, `a\b`, "{{ 7 }}", "}}", "~", "door~", "$x", strings.Repeat("門", maxName/3), strings.Repeat("門", maxName/3-1) + "間", strings.Repeat("x", maxName),
}

func home(cameras, models int) HomeAssistant {
	h := HomeAssistant{Version: "1.2.3", Hardware: "orin-nx-16", Temperature: true}
	for i := range models {
		h.Models = append(h.Models, fmt.Sprint("efficientnet-lite", i))
	}
	for i := range cameras {
		h.Cameras = append(h.Cameras, HomeAssistantCamera{fmt.Sprint("entrance-", i), h.Models})
	}
	return h
}

// checked gives the entities of all messages, which must keep the rules and not
// share what is to be unique.
func checked(t *testing.T, messages []Discovery) map[string]hatest.Entity {
	t.Helper()
	all, unique := map[string]hatest.Entity{}, map[string]bool{}
	for _, d := range messages {
		b := d.Payload(nil)
		m, err := hatest.Check(d.Topic, b)
		if err != nil {
			t.Fatalf("%s: %v\n%s", d.Topic, err, b)
		}
		for id, e := range m.Entities {
			if _, twice := all[id]; twice || unique[e.Text("unique_id")] {
				t.Errorf("%s or its unique_id %s is there twice", id, e.Text("unique_id"))
			}
			all[id], unique[e.Text("unique_id")] = e, true
		}
		if len(m.Entities) != len(d.Platforms()) {
			t.Errorf("%d entities, %d platforms", len(m.Entities), len(d.Platforms()))
		}
	}
	return all
}

func TestDiscoveryKeepsHomeAssistantsRules(t *testing.T) {
	t.Parallel()
	for _, device := range []string{"kiosk-7", "Küche 3", "~x~"} {
		c := newClient(t, Options{URL: "mqtt://localhost", Device: device}, quick())
		all := checked(t, c.Discover(home(2, 2)))
		if len(all) != 5+2+2*(2+2) {
			t.Errorf("%d entities: %v", len(all), slices.Sorted(maps.Keys(all)))
		}
		label := all["label_entrance-1_2Fefficientnet-lite0"]
		if label.Text("state_topic") != "sightd/"+device+"/entrance-1/classification/efficientnet-lite0" ||
			label.Text("json_attributes_topic") != label.Text("state_topic")+"/attributes" || label.Text("platform") != "sensor" {
			t.Errorf("label: %v", label)
		}
		camera := all["camera_entrance-0"]
		if camera.Text("state_topic") != "sightd/"+device+"/entrance-0/status" || camera.Text("device_class") != "connectivity" {
			t.Errorf("camera: %v", camera)
		}
		if u := all["update_efficientnet-lite1"]; u.Text("platform") != "update" || u.Text("state_topic") != "sightd/"+device+"/releases/efficientnet-lite1" {
			t.Errorf("update: %v", u)
		}
	}
}

func TestDiscoveryIsAtTheDevicesTopic(t *testing.T) {
	t.Parallel()
	for _, x := range []struct{ prefix, device, want string }{
		{"", "kiosk-7", "kiosk-7"},
		{"", "kiosk_7", "kiosk_7"},
		{"", "kiosk 7", "kiosk_207"},
		{"site", "kiosk-7", "site_2Fkiosk-7"},
	} {
		c := newClient(t, Options{URL: "mqtt://localhost", Prefix: x.prefix, Device: x.device}, quick())
		all := c.Discover(home(1, 1))
		want := "homeassistant/device/" + x.want + "/config"
		if len(all) != 1 || all[0].Topic != want || !c.IsDiscovery(want) || c.IsDiscovery("homeassistant/device/"+x.want+"1/config") {
			t.Errorf("%+v: %v", x, all)
		}
		m, err := hatest.Check(all[0].Topic, all[0].Payload(nil))
		if err != nil {
			t.Fatal(err)
		}
		status := map[string]any{"topic": c.Topic(TopicStatus), "payload_available": "online", "payload_not_available": "offline"}
		if len(m.Availability) != 1 || !maps.Equal(m.Availability[0].(map[string]any), status) {
			t.Errorf("availability %v, want %v", m.Availability, status)
		}
		// The connection itself is off, and not unavailable, when the device is.
		if own, _ := m.Entities["online"]["availability"].([]any); own == nil || len(own) > 0 {
			t.Errorf("availability of the connection: %v", m.Entities["online"]["availability"])
		}
	}
}

func TestNoTwoNamesHaveOneIDInHomeAssistant(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, name := range names {
		id := haID(name)
		if before, twice := seen[id]; twice {
			t.Errorf("%q and %q are both %s", before, name, id)
		}
		seen[id] = name
	}
	c := newClient(t, Options{URL: "mqtt://localhost"}, quick())
	h := HomeAssistant{Models: []string{"a_b", "b", "a.b", "lite0"}}
	for _, name := range names {
		h.Cameras = append(h.Cameras, HomeAssistantCamera{name, h.Models})
	}
	checked(t, c.Discover(h))
}

func FuzzHomeAssistantID(f *testing.F) {
	for _, name := range names {
		f.Add(name, name+"_")
	}
	rule := regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)
	f.Fuzz(func(t *testing.T, a, b string) {
		if CheckName(a) != nil || CheckName(b) != nil {
			return
		}
		if id := haID(a); !rule.MatchString(id) || len(id) > maxName || id == haID(b) && a != b {
			t.Errorf("%q is %s, %q is %s", a, id, b, haID(b))
		}
	})
}

// Sixteen cameras with four models fit one message, of 39 kB.
func TestDiscoveryThatIsTooLargeIsSplitByCamera(t *testing.T) {
	t.Parallel()
	c := newClient(t, Options{URL: "mqtt://localhost", Device: "kiosk-7"}, quick())
	one := c.Discover(home(16, 4))
	if len(one) != 1 {
		t.Fatalf("%d messages", len(one))
	}
	t.Logf("16 cameras with 4 models: %d bytes", len(one[0].Payload(nil)))
	if n := len(checked(t, one)); n != 5+4+16*(2+4) {
		t.Errorf("%d entities", n)
	}

	h := home(64, 8)
	many := c.Discover(h)
	if len(many) != 65 || many[1].Topic != "homeassistant/device/kiosk-7/entrance-0/config" || !c.IsDiscovery(many[1].Topic) {
		t.Fatalf("%d messages, the second to %s", len(many), many[1].Topic)
	}
	if n := len(checked(t, many)); n != 5+8+64*(2+8) {
		t.Errorf("%d entities", n)
	}
	gone := map[string]string{}
	for i := range MaxGone {
		gone[fmt.Sprintf("label_%0*d", maxName, i)] = "binary_sensor"
	}
	var devices []string
	for _, d := range append(many, one...) {
		b := d.Payload(gone)
		if len(b) > maxPayload {
			t.Errorf("%s has %d bytes", d.Topic, len(b))
		}
		m, err := hatest.Check(d.Topic, b)
		if err != nil {
			t.Fatal(err)
		}
		dev, _ := json.Marshal(m.Device)
		devices = append(devices, string(dev))
	}
	if devices = slices.Compact(devices); len(devices) != 1 {
		t.Errorf("several devices: %s", devices)
	}
}

func TestDiscoveryNamesWhatIsGone(t *testing.T) {
	t.Parallel()
	c := newClient(t, Options{URL: "mqtt://localhost"}, quick())
	before, now := c.Discover(home(2, 2))[0], c.Discover(home(1, 2))[0]
	m, err := hatest.Check(now.Topic, now.Payload(before.Platforms()))
	if err != nil {
		t.Fatal(err)
	}
	for id, platform := range before.Platforms() {
		_, stays := now.Platforms()[id]
		if e := m.Entities[id]; e.Text("platform") != platform || e.Removed() == stays {
			t.Errorf("%s: %v", id, e)
		}
	}
}

func TestDiscoveryIsTakenByHomeAssistantItself(t *testing.T) {
	t.Parallel()
	c := newClient(t, Options{URL: "mqtt://localhost", Device: "Küche 3"}, quick())
	all := c.Discover(home(64, 8))
	h := home(1, 1)
	for _, name := range names {
		h.Cameras = append(h.Cameras, HomeAssistantCamera{name, h.Models})
	}
	messages, n := map[string]string{}, 0
	for _, d := range append(all, newClient(t, Options{URL: "mqtt://localhost"}, quick()).Discover(h)...) {
		gone := map[string]string{"label_gone": "sensor"}
		messages[d.Topic] = string(d.Payload(gone))
		n += len(d.Platforms()) + len(gone)
	}
	if taken := hatest.Validate(t, messages); len(taken) != n {
		t.Errorf("%d of %d entities are taken", len(taken), n)
	}
}

// What is published stands at the broker under its own topic, comes again with a
// new session, and goes when it is cleared.
func TestDiscoveryIsRetained(t *testing.T) {
	t.Parallel()
	b := broker(t)
	p := startProxy(t, strings.TrimPrefix(b.URL(), "mqtt://"))
	c := newClient(t, Options{URL: p.url()}, quick())
	run(t, c)
	d := c.Discover(home(1, 1))[0]
	payload := d.Payload(nil)
	c.SetDiscovery(d.Topic, payload)
	drain(t, c)
	now := subscribe(t, b.URL(), d.Topic)
	eventually(t, "one that comes later has it", func() bool { return now.last(d.Topic) == string(payload) })
	p.cut()
	eventually(t, "it comes again", func() bool { return len(now.on(d.Topic)) == 2 })
	c.SetDiscovery(d.Topic, nil)
	eventually(t, "it is cleared", func() bool { return now.last(d.Topic) == "" })
	if s := c.Stats(); s.StatesRefused != 0 {
		t.Errorf("%d states were refused", s.StatesRefused)
	}
}

// Whatever is asked of its templates, sightd's payloads have the answers.
func TestDiscoverysTemplatesAreThoseOfJinja(t *testing.T) {
	t.Parallel()
	health := func(h Health) string { return encode(t, h) }
	full := health(Health{
		Rates: map[string]Rates{"door": {14.9, 14.2}, `it's {{ "}}" }} \ ok`: {1, 2.5}}, Degraded: []string{"lite0"},
		Temperatures: map[string]float64{"cpu-thermal": 48.5, "gpu-thermal": 51.25},
		Drops:        Drops{Events: map[string]uint64{DropInvalid: 1, DropSize: 2}}, Outbox: OutboxHealth{Queued: 17},
	})
	empty := health(Health{Rates: map[string]Rates{}, Drops: Drops{Events: map[string]uint64{}}, Temperatures: map[string]float64{}})
	rate := func(camera string) string { return strings.Replace(haRate, "%s", jinjaString(camera), 1) }
	tests := []struct{ template, payload, want string }{
		{haLabel, "person", "person"},
		{haLabel, NoLabel, "none"},
		{haLabel, strings.Repeat("é", 300), strings.Repeat("é", 255)},
		{haLabel, "7", "7"},
		{haOnline, Online, "ON"},
		{haOnline, Stalled, "OFF"},
		{haOnline, Offline, "OFF"},
		{haDegraded, full, "ON"},
		{haDegraded, empty, "OFF"},
		{haTemperature, full, "51.25"},
		{haTemperature, empty, "None"},
		{haZones, full, `{"cpu-thermal": 48.5, "gpu-thermal": 51.25}`},
		{haWaiting, full, "17"},
		{haLost, full, "3"},
		{haLost, empty, "0"},
		{haDrops, empty, "{}"},
		{rate("door"), full, "14.2"},
		{rate(`it's {{ "}}" }} \ ok`), full, "2.5"},
		{rate("door"), empty, "None"},
	}
	all := make([]hatest.Template, len(tests))
	for i, x := range tests {
		all[i] = hatest.Template{Template: x.template, Payload: x.payload}
	}
	for i, got := range hatest.Render(t, all...) {
		if got != tests[i].want {
			t.Errorf("%s with %.200s gives %q, want %q", tests[i].template, tests[i].payload, got, tests[i].want)
		}
	}
}

func TestDiscoverysUpdateTellsWhatIsInstalledAndWhatComes(t *testing.T) {
	t.Parallel()
	half := 0.456
	type m = map[string]any
	tests := []struct {
		r    Release
		want m
	}{
		{Release{Release: 7, State: "confirmed", Serving: 7}, m{"latest_version": "7", "installed_version": "7"}},
		{
			Release{Release: 7, Revision: 3, State: "confirmed", Serving: 7, ServingRevision: 3},
			m{"latest_version": "7.3", "installed_version": "7.3"},
		},
		{
			Release{Release: 8, State: "staged", Phase: "building", Progress: &half, Serving: 7, ServingRevision: 3},
			m{"latest_version": "8", "installed_version": "7.3", "in_progress": true, "update_percentage": 46.0},
		},
		// It is held until somebody activates it.
		{Release{Release: 8, State: "staged", Serving: 7}, m{"latest_version": "8", "installed_version": "7"}},
		{
			Release{Release: 8, State: "rejected", Reason: `"golden" <1`, Serving: 7},
			m{"latest_version": "7", "installed_version": "7", "release_summary": `"golden" <1`},
		},
		{Release{Release: 8, State: "rolled back", Serving: 7}, m{"latest_version": "7", "installed_version": "7"}},
		// Nothing serves yet: what was installed stays as it was said before.
		{Release{Release: 7, State: "staged", Phase: "preparing"}, m{"latest_version": "7", "in_progress": true}},
		{Release{Release: 7, State: "rejected"}, m{"latest_version": "7"}},
		// The CPU serves it while the GPU's engine is built: it is installed.
		{Release{Release: 7, State: "serving", Phase: "building", Progress: &half, Serving: 7}, m{"latest_version": "7", "installed_version": "7"}},
	}
	all := make([]hatest.Template, len(tests))
	for i, x := range tests {
		all[i] = hatest.Template{Template: haUpdate, Payload: encode(t, x.r)}
	}
	for i, got := range hatest.Render(t, all...) {
		want := m{"in_progress": false, "update_percentage": nil, "release_summary": ""}
		maps.Copy(want, tests[i].want)
		var found m
		if err := json.Unmarshal([]byte(got), &found); err != nil || !maps.Equal(found, want) {
			t.Errorf("%s gives %s (%v), want %v", all[i].Payload, got, err, want)
		}
	}
}

func encode(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
