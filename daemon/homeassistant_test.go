package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"testing"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/sightd/sightd/internal/hatest"
	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/mqtt"
	"github.com/sightd/sightd/release"
)

const discoveryTopic = "homeassistant/device/box/config"

// What Home Assistant would show, it is shown: each entity's topics are published, and
// its templates make of their payloads what it takes.
func TestHomeAssistantShowsWhatIsPublished(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(c *Config, _ *scripted) { c.MQTT.HomeAssistant = true })
	s.install(2)
	s.wait(2, release.Confirmed, "")
	s.goesOn(2)
	eventually(t, "the device can be found", func() bool { return s.sub.last(discoveryTopic) != "" })
	m, err := hatest.Check(discoveryTopic, []byte(s.sub.last(discoveryTopic)))
	if err != nil {
		t.Fatal(err)
	}
	one := `^\d+(\.\d+)?$`
	want := map[string]string{
		"online": "^online$", "degraded": "^OFF$", "waiting": one, "lost": one,
		"camera_bars": "^ON$", "rate_bars": `^\d+(\.\d+)?$|^None$`, "label_bars_2Flite0": "^.+$",
		"update_lite0": `^{"in_progress": false, "installed_version": "2", "latest_version": "2", .*}$`,
	}
	if len(temperatures()) > 0 {
		want["temperature"] = one
	}
	if len(m.Entities) != len(want) {
		t.Errorf("%d entities, wanted %d: %v", len(m.Entities), len(want), m.Entities)
	}
	eventually(t, "release 2 is confirmed", func() bool {
		var r mqtt.Release
		return json.Unmarshal([]byte(s.sub.last("sightd/box/releases/lite0")), &r) == nil && r.State == string(release.Confirmed) && r.Serving == 2
	})
	for id, pattern := range want {
		e := m.Entities[id]
		topic := e.Text("state_topic")
		eventually(t, topic+" is published", func() bool { return s.sub.last(topic) != "" })
		shown := s.sub.last(topic)
		if tpl := e.Text("value_template"); tpl != "" {
			shown = hatest.Render(t, hatest.Template{Template: tpl, Payload: shown})[0]
		}
		if !regexp.MustCompile(pattern).MatchString(shown) {
			t.Errorf("%s shows %q, wanted %s", id, shown, pattern)
		}
		if topic := e.Text("json_attributes_topic"); topic != "" {
			eventually(t, topic+" is published", func() bool { return s.sub.last(topic) != "" })
			shown := s.sub.last(topic)
			if tpl := e.Text("json_attributes_template"); tpl != "" {
				shown = hatest.Render(t, hatest.Template{Template: tpl, Payload: shown})[0]
			}
			var attributes map[string]any
			if err := json.Unmarshal([]byte(shown), &attributes); err != nil {
				t.Errorf("%s has the attributes %s: %v", id, shown, err)
			}
		}
	}
	s.stop()
}

// homes is a daemon that is started again and again at a broker that stays.
type homes struct {
	t   *testing.T
	c   *Config
	sub *subscriber
	url string
}

func newHomes(t *testing.T) *homes {
	t.Helper()
	b, err := mqtt.StartBroker("127.0.0.1:0", testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	h := &homes{t: t, c: testConfig(t, bars(), CameraConfig{Name: "back.door", Source: "test:bars?each=true"}), url: b.URL()}
	h.c.MQTT.Embedded, h.c.MQTT.URL, h.c.MQTT.HomeAssistant = "", Brokers{b.URL()}, true
	h.sub = subscribe(t, b.URL(), "homeassistant/#")
	return h
}

// run starts the daemon, waits for what is to come of it, and stops it.
func (h *homes) run(what string, ok func(map[string]hatest.Entity) bool) *Daemon {
	h.t.Helper()
	d, err := New(h.c, Options{backend: &scripted{name: "ort", lanes: 1}, pace: lively, Worker: testenv.Worker(h.t), Log: testLog(h.t)})
	if err != nil {
		h.t.Fatal(err)
	}
	stop := stoppable(h.t, d)
	defer stop()
	eventually(h.t, what, func() bool {
		payload := h.sub.last(discoveryTopic)
		if payload == "" {
			return ok(nil)
		}
		m, err := hatest.Check(discoveryTopic, []byte(payload))
		if err != nil {
			h.t.Fatal(err)
		}
		return ok(m.Entities)
	})
	eventually(h.t, "the broker knows", func() bool { return d.client.Stats().Connected && d.client.Stats().StatesPending == 0 })
	return d
}

func TestHomeAssistantForgetsWhatTheConfigurationHasNoMore(t *testing.T) {
	t.Parallel()
	h := newHomes(t)
	const gone = "label_back_2Edoor_2Flite0"
	h.run("both cameras are there", func(e map[string]hatest.Entity) bool {
		return len(e[gone]) > 1 && len(e["label_bars_2Flite0"]) > 1
	})

	both := h.c.Cameras
	h.c.Cameras = both[:1]
	removed := func(e map[string]hatest.Entity) bool {
		return e[gone].Removed() && e["camera_back_2Edoor"].Removed() && e["rate_back_2Edoor"].Removed() && len(e["label_bars_2Flite0"]) > 1
	}
	h.run("one is removed", removed)
	h.run("one is removed still, where Home Assistant was away", removed)
	h.c.Cameras = both
	h.run("it is there again", func(e map[string]hatest.Entity) bool { return len(e[gone]) > 1 })

	h.c.MQTT.HomeAssistant = false
	d := h.run("the device is gone", func(e map[string]hatest.Entity) bool { return e == nil })
	d.noteRetained()
	if _, err := os.Stat(d.discoveryPath()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is noted that Home Assistant knows something: %v", err)
	}
}

// The copy of a device's storage, under another name, leaves that device alone.
func TestHomeAssistantKeepsTheDeviceThatThisOneIsACopyOf(t *testing.T) {
	t.Parallel()
	h := newHomes(t)
	const other = "homeassistant/device/other/config"
	p := paho.NewClient(paho.NewClientOptions().AddBroker(h.url).SetClientID("other"))
	for _, do := range []func() paho.Token{p.Connect, func() paho.Token { return p.Publish(other, 1, true, "its own") }} {
		if tok := do(); tok.Wait() && tok.Error() != nil {
			t.Fatal(tok.Error())
		}
	}
	p.Disconnect(100)
	note := fmt.Sprintf(`{%q: {"label_bars": "sensor"}}`, other)
	if err := os.WriteFile((&Daemon{cfg: h.c}).discoveryPath(), []byte(note), 0o644); err != nil {
		t.Fatal(err)
	}
	h.run("this device is found", func(e map[string]hatest.Entity) bool { return len(e) > 0 })
	if last := h.sub.last(other); last != "its own" {
		t.Errorf("the other's message is %q", last)
	}
}

func TestHomeAssistantIsToldWhereTheNoteIsDamaged(t *testing.T) {
	t.Parallel()
	h := newHomes(t)
	path := (&Daemon{cfg: h.c}).discoveryPath()
	if err := os.WriteFile(path, []byte(`{"homeassistant/dev`), 0o644); err != nil {
		t.Fatal(err)
	}
	h.run("this device is found", func(e map[string]hatest.Entity) bool { return len(e) > 0 })
	if noted, err := readDiscovery(path); err != nil || noted[discoveryTopic]["label_bars_2Flite0"] != "sensor" {
		t.Errorf("noted are %v: %v", noted, err)
	}
}
