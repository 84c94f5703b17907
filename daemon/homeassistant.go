package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/sightd/sightd/internal/durable"
	"github.com/sightd/sightd/internal/strict"
	"github.com/sightd/sightd/mqtt"
)

// discovery is what Home Assistant was told: the platforms of entities by their
// ids, by topic. It is noted in the state directory, also when entities are gone,
// since they have to be named to be removed; and Home Assistant may be away when
// they go. The messages are retained, so nothing is to be done when it comes back.
type discovery map[string]map[string]string

func (d *Daemon) discoveryPath() string { return filepath.Join(d.cfg.StateDir, "home-assistant.json") }

// discover has Home Assistant find the device, or, where that is turned off, forget it.
func (d *Daemon) discover() {
	if d.client == nil {
		return
	}
	before, err := readDiscovery(d.discoveryPath())
	if err != nil {
		d.log.Warn("what Home Assistant has of cameras and models that are gone can't be removed", "err", err)
	}
	var messages []mqtt.Discovery
	if d.cfg.MQTT.HomeAssistant {
		messages = d.client.Discover(d.homeAssistant())
	}
	noted := discovery{}
	for topic, platforms := range before {
		is := func(m mqtt.Discovery) bool { return m.Topic == topic }
		// A device that has another name now may be the copy of one that still is there.
		if !slices.ContainsFunc(messages, is) && d.client.IsDiscovery(topic) {
			d.client.SetDiscovery(topic, nil) // before another message has its entities
			noted[topic] = platforms          // until the broker knows
		}
	}
	d.discovery = discovery{}
	for _, m := range messages {
		d.discovery[m.Topic] = d.show(m, before[m.Topic])
	}
	maps.Copy(noted, d.discovery)
	if err := d.writeDiscovery(noted); err != nil {
		d.log.Warn("Home Assistant will keep what it has of cameras and models when those are gone", "err", err)
	}
}

// show publishes a message, which removes what is gone since before. It returns all
// that the message names.
func (d *Daemon) show(m mqtt.Discovery, before map[string]string) map[string]string {
	all, gone := m.Platforms(), map[string]string{}
	for _, id := range slices.Sorted(maps.Keys(before)) {
		if _, there := all[id]; !there && len(gone) < mqtt.MaxGone {
			gone[id] = before[id]
		}
	}
	d.client.SetDiscovery(m.Topic, m.Payload(gone))
	maps.Copy(all, gone)
	return all
}

// homeAssistant is what the configuration has to show.
func (d *Daemon) homeAssistant() mqtt.HomeAssistant {
	h := mqtt.HomeAssistant{Version: d.opts.Version, Hardware: Module(), Temperature: len(temperatures()) > 0}
	for _, u := range d.units {
		h.Models = append(h.Models, u.name)
	}
	for _, c := range d.cameras {
		cam := mqtt.HomeAssistantCamera{Name: c.name}
		for _, u := range d.units {
			for _, v := range u.views {
				if v.name == c.name {
					cam.Models = append(cam.Models, u.name)
				}
			}
		}
		h.Cameras = append(h.Cameras, cam)
	}
	return h
}

// writeDiscovery notes what Home Assistant was told; nothing, where that is nothing.
func (d *Daemon) writeDiscovery(h discovery) error {
	if len(h) == 0 {
		if err := os.Remove(d.discoveryPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	b, err := json.MarshalIndent(h, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(d.discoveryPath(), append(b, '\n'), 0o644)
}

func readDiscovery(path string) (discovery, error) {
	b, err := strict.ReadFile(path, maxRetained)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var h discovery
	if err := json.Unmarshal(b, &h); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return h, nil
}
