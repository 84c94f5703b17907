package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sightd/sightd/daemon"
	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/mqtt"
)

// unseen are the channels that this test doesn't get to see, with the reason.
var unseen = map[string]string{}

// A daemon whose releases come through the inbox, good ones and bad ones, and
// whose camera is taken away, publishes all that there is.
func TestWhatIsPublishedIsAsTheContractSays(t *testing.T) {
	t.Parallel()
	broker, err := mqtt.StartBroker("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { broker.Close() })
	seen := collect(t, broker.URL(), "sightd/here/#")

	drops := t.TempDir()
	more := fmt.Sprintf("mqtt: {url: %q, commands: [snapshot, rollback]}\nreleases: {inbox: %q, require_signature: false, probation: 1s}\n", broker.URL(), drops)
	config, _ := serviceConfig(t, "test:bars", more)
	s := startService(t, config)
	s.when("serving, and taking commands", func(s *daemon.Status) bool { return online(s) && s.MQTT.Commands.Listening })
	// They are refused where no time server sets this machine's clock.
	i := newInjector(t, broker.Addr().String())
	for name, arguments := range map[string]string{"snapshot": `"camera":"door"`, "rollback": `"model":"tiny","release":1`} {
		expires := time.Now().Add(time.Minute).UTC().Format(time.RFC3339)
		i.send("sightd/here/command/"+name, fmt.Sprintf(`{"id":%q,"expires":%q,%s}`, name, expires, arguments))
		seen.until(t, "sightd/here/command/"+name+"/reply", func(p string) bool { return strings.Contains(p, fmt.Sprintf(`"id":%q`, name)) })
	}
	if err := os.Rename(tinyRelease(t, 2), filepath.Join(drops, "two.tar.zst")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(drops, "broken.tar.zst"), []byte("no archive"), 0o644); err != nil {
		t.Fatal(err)
	}
	seen.until(t, "sightd/here/releases/tiny", func(p string) bool { return strings.Contains(p, `"state":"confirmed"`) })
	seen.until(t, "sightd/here/inbox", func(p string) bool { return strings.Contains(p, `"code":"bad-archive"`) })
	retained := collect(t, broker.URL(), "sightd/here/#")
	retained.until(t, "sightd/here/door/status", func(p string) bool { return p == mqtt.Online })
	if status := s.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d", status)
	}
	seen.until(t, "sightd/here/status", func(p string) bool { return p == mqtt.Offline })

	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, bytes.Replace(text, []byte("name: door"), []byte("name: gate"), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	s = startService(t, config)
	for _, topic := range []string{"status", "classification/tiny", "classification/tiny/attributes"} {
		seen.until(t, "sightd/here/door/"+topic, func(p string) bool { return p == "" })
	}
	if status := s.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d", status)
	}

	c := newChecker(t)
	for _, m := range seen.all() {
		c.check(t, m)
	}
	for _, channel := range slices.Sorted(maps.Keys(c.contract.Channels)) {
		if reason, listed := unseen[channel]; c.count[channel] == 0 && !listed {
			t.Errorf("nothing was seen of the channel %s", channel)
		} else if c.count[channel] > 0 && listed {
			t.Errorf("the channel %s was seen, though it isn't said to be: %s", channel, reason)
		}
	}
	c.checkRetained(t, retained.all())
}

// collected is a message as it came.
type collected struct {
	topic, payload string
	qos            byte
	retained       bool
}

type collector struct {
	mu       sync.Mutex
	messages []collected
}

// collect subscribes, and keeps what comes until the test ends.
func collect(t *testing.T, url, filter string) *collector {
	t.Helper()
	all := &collector{}
	c := paho.NewClient(paho.NewClientOptions().AddBroker(url).SetClientID(""))
	if token := c.Connect(); token.Wait() && token.Error() != nil {
		t.Fatal(token.Error())
	}
	t.Cleanup(func() { c.Disconnect(50) })
	token := c.Subscribe(filter, 1, func(_ paho.Client, m paho.Message) {
		all.mu.Lock()
		defer all.mu.Unlock()
		all.messages = append(all.messages, collected{m.Topic(), string(m.Payload()), m.Qos(), m.Retained()})
	})
	if token.Wait() && token.Error() != nil {
		t.Fatal(token.Error())
	}
	return all
}

func (c *collector) all() []collected {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.messages)
}

// until waits for a payload on a topic.
func (c *collector) until(t *testing.T, topic string, ok func(string) bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if slices.ContainsFunc(c.all(), func(m collected) bool { return m.topic == topic && ok(m.payload) }) {
			return
		}
	}
	var last string
	for _, m := range c.all() {
		if m.topic == topic {
			last = m.payload
		}
	}
	t.Fatalf("not within a minute on %s, which said last: %s", topic, last)
}

// checker holds messages against the contract.
type checker struct {
	contract *contract
	schemas  map[string]*jsonschema.Schema // by message
	count    map[string]int                // messages by channel
}

func newChecker(t *testing.T) *checker {
	t.Helper()
	c := &checker{contract: readContract(t), schemas: map[string]*jsonschema.Schema{}, count: map[string]int{}}
	for name, m := range c.contract.Components.Messages {
		c.schemas[name] = testenv.Schema(t, m.Payload.Schema.to())
	}
	return c
}

// channel is the one whose address a topic has.
func (c *checker) channel(topic string) (string, error) {
	var found []string
	for name, channel := range c.contract.Channels {
		if isAt(topic, channel.Address) {
			found = append(found, name)
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%s is in the channels %q, want one", topic, found)
	}
	return found[0], nil
}

func isAt(topic, address string) bool {
	levels, wanted := strings.Split(topic, "/"), strings.Split(address, "/")
	return slices.EqualFunc(levels, wanted, func(level, want string) bool {
		return level == want || strings.HasPrefix(want, "{")
	})
}

func (c *checker) check(t *testing.T, m collected) {
	t.Helper()
	name, err := c.channel(m.topic)
	if err != nil {
		t.Error(err)
		return
	}
	c.count[name]++
	if b, _ := c.contract.binding(name); m.qos != b.QoS {
		t.Errorf("%s came with QoS %d, the contract says %d", m.topic, m.qos, b.QoS)
	}
	message := ""
	for candidate := range c.contract.Channels[name].Messages {
		if (candidate == "cleared") == (m.payload == "") {
			message = candidate
		}
	}
	if message == "" {
		t.Errorf("%s was cleared, or came with a payload, which the contract doesn't say", m.topic)
		return
	}
	var value any = m.payload
	if c.contract.Components.Messages[message].ContentType != "text/plain" {
		if value, err = jsonschema.UnmarshalJSON(strings.NewReader(m.payload)); err != nil {
			t.Errorf("%s: %v in %s", m.topic, err, m.payload)
			return
		}
	}
	if err := c.schemas[message].Validate(value); err != nil {
		t.Errorf("%s: %v\n%s", m.topic, err, m.payload)
	}
	if name == "inbox" { // whose payload has no type that could be held against the schema
		var fields map[string]json.RawMessage
		_ = json.Unmarshal([]byte(m.payload), &fields)
		have, want := slices.Sorted(maps.Keys(fields)), slices.Sorted(maps.Keys(c.schemas[message].Properties))
		if !slices.Equal(have, want) {
			t.Errorf("%s has the fields %q, the schema %q", m.topic, have, want)
		}
	}
}

// checkRetained holds what a late subscriber got against what the contract says is
// retained.
func (c *checker) checkRetained(t *testing.T, messages []collected) {
	t.Helper()
	got := map[string]bool{}
	for _, m := range messages {
		if name, err := c.channel(m.topic); err == nil && m.retained {
			got[name] = true
		}
	}
	for name := range c.contract.Channels {
		if _, skip := unseen[name]; skip {
			continue
		}
		if b, _ := c.contract.binding(name); b.Retain != got[name] {
			t.Errorf("channel %s: retained %v, the contract says %v", name, got[name], b.Retain)
		}
	}
}
