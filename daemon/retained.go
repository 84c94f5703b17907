package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/sightd/sightd/internal/durable"
	"github.com/sightd/sightd/internal/strict"
	"github.com/sightd/sightd/mqtt"
)

// A broker keeps retained states for good, also those of a camera or model that
// the configuration no longer has. So the topics are noted in the state
// directory, and a start clears those that have gone.

// maxRetained is the most bytes of the note: thousands of topics.
const maxRetained = 1 << 20

func (d *Daemon) retainedPath() string { return filepath.Join(d.cfg.StateDir, "retained.json") }

// retained are the topics that hold a state of a camera, a model or the inbox.
func (d *Daemon) retained() []string {
	var all []string
	for _, c := range d.cameras {
		all = append(all, mqtt.TopicCameraStatus(c.name))
	}
	for _, u := range d.units {
		all = append(all, mqtt.TopicRelease(u.name))
		for _, v := range u.views {
			all = append(all, mqtt.TopicClassification(v.name, u.name), mqtt.TopicAttributes(v.name, u.name))
		}
	}
	if d.inbox != nil {
		all = append(all, mqtt.TopicInbox)
	}
	slices.Sort(all)
	return all
}

// clearRetained clears the states of cameras and models that are gone. The note
// keeps them until the broker knows; see noteRetained.
func (d *Daemon) clearRetained() {
	before, err := readRetained(d.retainedPath())
	if err != nil {
		d.log.Warn("retained states of cameras and models that are gone can't be cleared", "err", err)
	}
	now := d.retained()
	for _, topic := range before {
		if _, there := slices.BinarySearch(now, topic); !there {
			d.say.SetState(topic, nil)
		}
	}
	all := slices.Concat(before, now)
	slices.Sort(all)
	// A full disk is no reason not to classify.
	if err := d.writeRetained(slices.Compact(all)); err != nil {
		d.log.Warn("states of cameras and models can't be cleared when those are gone", "err", err)
	}
	d.discover()
}

// noteRetained forgets the states that were cleared, once the broker has
// everything.
func (d *Daemon) noteRetained() {
	if d.client == nil || d.client.Stats().StatesPending > 0 || d.noted {
		return
	}
	if err := d.writeRetained(d.retained()); err != nil {
		d.log.Warn("note the retained topics", "err", err)
		return
	}
	if err := d.writeDiscovery(d.discovery); err != nil {
		d.log.Warn("note what Home Assistant was told", "err", err)
		return
	}
	d.noted = true
}

func (d *Daemon) writeRetained(topics []string) error {
	b, err := json.MarshalIndent(topics, "", "  ")
	if err != nil {
		return err
	}
	if err := durable.WriteFile(d.retainedPath(), append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("note the retained topics: %w", err)
	}
	return nil
}

func readRetained(path string) ([]string, error) {
	b, err := strict.ReadFile(path, maxRetained)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var topics []string
	if err := json.Unmarshal(b, &topics); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return topics, nil
}
