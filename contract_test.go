package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sightd/sightd/internal/testenv"
)

// contract is what the tests need of docs/asyncapi.yaml.
type contract struct {
	Channels   map[string]contractChannel
	Operations map[string]struct {
		Action   string
		Channel  link
		Reply    struct{ Channel link }
		Bindings link
	}
	Components struct {
		OperationBindings map[string]struct{ MQTT binding } `yaml:"operationBindings"`
		Messages          map[string]contractMessage
	}
}

type contractChannel struct {
	Address    string
	Parameters map[string]link
	Messages   map[string]link
}

type contractMessage struct {
	ContentType string `yaml:"contentType"`
	Payload     struct{ Schema link }
}

type binding struct {
	QoS    byte `yaml:"qos"`
	Retain bool
}

type link struct {
	Ref string `yaml:"$ref"`
}

// to is the name that a reference ends with.
func (r link) to() string { return filepath.Base(r.Ref) }

const contractFile = "docs/asyncapi.yaml"

func readContract(t *testing.T) *contract {
	t.Helper()
	text, err := os.ReadFile(contractFile)
	if err != nil {
		t.Fatal(err)
	}
	c := new(contract)
	if err := yaml.Unmarshal(text, c); err != nil {
		t.Fatal(err)
	}
	return c
}

// binding is how a channel's messages are published, or received.
func (c *contract) binding(channel string) (binding, bool) {
	for _, o := range c.Operations {
		if o.Channel.to() == channel || o.Reply.Channel.to() == channel {
			return c.Components.OperationBindings[o.Bindings.to()].MQTT, true
		}
	}
	return binding{}, false
}

func TestTheContractIsAsAsyncAPIWantsIt(t *testing.T) {
	t.Parallel()
	standard := testenv.NPM(t, "@asyncapi/specs/schemas/3.0.0.json")
	s, err := jsonschema.NewCompiler().Compile(standard)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(contractFile)
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := yaml.YAMLToJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(document); err != nil {
		t.Error(err)
	}
	// That the standard's schema finds faults at all.
	delete(document.(map[string]any)["info"].(map[string]any), "version")
	if s.Validate(document) == nil {
		t.Error("a document without info.version was accepted")
	}
}

// Every reference of the contract leads somewhere, every schema is of use, and
// every part of a topic is a parameter.
func TestTheContractIsWhole(t *testing.T) {
	t.Parallel()
	c := readContract(t)
	var document map[string]any
	text, err := os.ReadFile(contractFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	checkReferences(t, document, document, "docs", used)
	files, err := filepath.Glob("docs/schemas/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("no schemas", err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var s map[string]any
		if err := json.Unmarshal(raw, &s); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		checkReferences(t, nil, s, filepath.Dir(f), used)
		testenv.Schema(t, filepath.Base(f))
	}
	for _, f := range files {
		if !used[f] {
			t.Errorf("nothing refers to %s", f)
		}
	}
	for name, channel := range c.Channels {
		if _, ok := c.binding(name); !ok {
			t.Errorf("channel %s has no operation", name)
		}
		for _, level := range strings.Split(channel.Address, "/") {
			if parameter, ok := strings.CutPrefix(level, "{"); ok {
				if _, ok := channel.Parameters[strings.TrimSuffix(parameter, "}")]; !ok {
					t.Errorf("channel %s has no parameter %s", name, level)
				}
			}
		}
	}
}

// checkReferences follows each $ref beneath node: #/… into document, others to
// files beside dir, which it notes as used.
func checkReferences(t *testing.T, document map[string]any, node any, dir string, used map[string]bool) {
	t.Helper()
	switch n := node.(type) {
	case []any:
		for _, v := range n {
			checkReferences(t, document, v, dir, used)
		}
	case map[string]any:
		for key, v := range n {
			ref, ok := v.(string)
			if key != "$ref" || !ok {
				checkReferences(t, document, v, dir, used)
				continue
			}
			if pointer, ok := strings.CutPrefix(ref, "#/"); ok {
				var at any = document
				for part := range strings.SplitSeq(pointer, "/") {
					m, _ := at.(map[string]any)
					at = m[part]
				}
				if at == nil {
					t.Errorf("%s leads nowhere", ref)
				}
				continue
			}
			file := filepath.Join(dir, ref)
			used[file] = true
			if _, err := os.Stat(file); err != nil {
				t.Error(err)
			}
		}
	}
}
