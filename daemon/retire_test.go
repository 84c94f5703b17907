package daemon

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// As docs/operating.md shows it.
func TestWhatADeviceLeftAtTheBrokerIsCleared(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("mosquitto_sub"); err != nil {
		t.Skip("mosquitto_sub isn't installed: apt install mosquitto-clients")
	}
	doc, err := os.ReadFile("../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(doc), "**A device that goes")
	_, rest, _ = strings.Cut(rest, "```sh\n")
	script, _, ok := strings.Cut(rest, "```")
	_, script, stops := strings.Cut(script, "\n") // it stops sightd
	if !ok || !stops {
		t.Fatal("docs/operating.md has no example for a device that goes")
	}
	s := newStage(t, nil)
	o := paho.NewClientOptions().AddBroker("mqtt://" + s.c.MQTT.Embedded).SetClientID("left").SetAutoReconnect(false)
	client := paho.NewClient(o)
	if tok := client.Connect(); !tok.WaitTimeout(time.Minute) || tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	defer client.Disconnect(50)
	// Another device's, in the place of one that is gone.
	left := []string{"sightd/gone/status", "sightd/gone/cam0/status", "sightd/gone/releases/lite0", "homeassistant/device/gone/config", "homeassistant/device/gone/cam0/config"}
	for _, topic := range append(left, "sightd/gone2/status") {
		if tok := client.Publish(topic, 1, true, "{}"); !tok.WaitTimeout(time.Minute) || tok.Error() != nil {
			t.Fatal(tok.Error())
		}
	}
	host, port, err := net.SplitHostPort(s.c.MQTT.Embedded)
	if err != nil {
		t.Fatal(err)
	}
	script = strings.NewReplacer("-h broker", "-h "+host+" -p "+port, "device1", "gone", "-W 5", "-W 3").Replace(script)
	out, err := exec.CommandContext(t.Context(), "bash", "-euc", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, script, out)
	}
	for _, topic := range left {
		if !strings.Contains(string(out), topic+" {}") {
			t.Errorf("%s isn't cleared:\n%s", topic, out)
		}
		eventually(t, topic+" to be empty", func() bool { return s.sub.last(topic) == "" })
	}
	if s.sub.last("sightd/gone2/status") != "{}" {
		t.Error("another device's is cleared too")
	}
}
