package mqtt

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/sightd/sightd/internal/testenv"
)

// docs/home-assistant.md names every entity, and its automations, which are valid
// YAML of the form that Home Assistant has had since 2024.10, name none that isn't
// there: https://www.home-assistant.io/docs/automation/yaml/.
func TestHomeAssistantsPageNamesItsEntities(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(filepath.Join(testenv.Root(), "docs/home-assistant.md"))
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	c := newClient(t, Options{URL: "mqtt://localhost", Device: "kiosk-7"}, quick())
	d := c.Discover(HomeAssistant{Models: []string{"lite0"}, Cameras: []HomeAssistantCamera{{"door", []string{"lite0"}}}, Temperature: true})[0]
	var ids []string
	for id, e := range d.components {
		row := "| " + strings.ReplaceAll(e.Platform, "_", " ") + " | " + e.Name + " |"
		if !strings.Contains(page, row) {
			t.Errorf("%s isn't on the page: %s", id, row)
		}
		ids = append(ids, e.Platform+"."+slug("kiosk-7 "+e.Name))
	}

	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(page, -1)
	if len(blocks) != 3 {
		t.Fatalf("%d examples in YAML", len(blocks))
	}
	var config struct {
		MQTT struct {
			URL           string `yaml:"url"`
			HomeAssistant bool   `yaml:"home_assistant"`
		} `yaml:"mqtt"`
	}
	if err := yaml.UnmarshalWithOptions([]byte(blocks[0][1]), &config, yaml.Strict()); err != nil || !config.MQTT.HomeAssistant {
		t.Errorf("the configuration: %+v, %v", config, err)
	}
	type step map[string]any
	for _, block := range blocks[1:] {
		var automations []struct {
			Alias      string `yaml:"alias"`
			Triggers   []step `yaml:"triggers"`
			Conditions []step `yaml:"conditions"`
			Actions    []step `yaml:"actions"`
		}
		if err := yaml.UnmarshalWithOptions([]byte(block[1]), &automations, yaml.Strict()); err != nil {
			t.Fatal(err)
		}
		for _, a := range automations {
			if len(a.Triggers) != 1 || len(a.Actions) != 1 || a.Actions[0]["action"] == nil {
				t.Errorf("%+v has no trigger or no action", a)
			}
			switch trigger := a.Triggers[0]; trigger["trigger"] {
			case "state":
				if id, _ := trigger["entity_id"].(string); !slices.Contains(ids, id) {
					t.Errorf("%s is triggered by %s, which isn't among %q", a.Alias, id, ids)
				}
			case "mqtt":
				if want := c.Topic(TopicEvents("door")); trigger["topic"] != want {
					t.Errorf("%s is triggered by %s, wanted %s", a.Alias, trigger["topic"], want)
				}
			default:
				t.Errorf("%s has the trigger %v", a.Alias, trigger)
			}
		}
	}
}

// slug is a name as Home Assistant has it in the ids of entities.
func slug(name string) string {
	return strings.Trim(regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(name), "_"), "_")
}
