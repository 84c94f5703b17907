package daemon

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/release"
)

// A device that came with nothing but releases that somebody holds runs, says what has
// one of them serve, and serves it then.
func TestWhereAllReleasesAreHeldTheDaemonWaitsForOneToBeActivated(t *testing.T) {
	t.Parallel()
	c := testConfig(t, bars())
	c.Models[0].Release = ""
	c.Releases.RequireSignature, c.Releases.Activate = false, "manual"
	store, err := release.OpenStore(c.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	rel, err := store.OpenArchive("the release", bytes.NewReader(packed(t, 2)))
	if err != nil {
		t.Fatal(err)
	}
	defer rel.Close()
	if _, err := store.Install(rel, release.Policy{}, release.Options{Hold: true}); err != nil {
		t.Fatal(err)
	}
	b := &scripted{name: "tensorrt", lanes: 1}
	spare := &scripted{name: "ort", lanes: 1}
	for _, first := range []bool{true, false} { // it is proven after the first start
		sub := subscribe(t, "mqtt://"+c.MQTT.Embedded)
		d, err := New(c, Options{backend: b, spare: spare, pace: lively, Worker: testenv.Worker(t), Log: testLog(t)})
		if err != nil {
			t.Fatal(err)
		}
		stop := stoppable(t, d)
		const command = "`sightd release activate lite0 2`"
		eventually(t, "it waits", func() bool { m := d.model(); return m.State == modelHeld && strings.Contains(m.Reason, command) })
		if code, body := readyz(t, c); code != http.StatusServiceUnavailable || !strings.Contains(body, command) {
			t.Errorf("readyz: %d %s", code, body)
		}
		if line := statusLine(d.Status()); !strings.HasPrefix(line, "lite0 waits for `sightd release activate`; 0 of 1") {
			t.Errorf("status line %q", line)
		}
		eventually(t, "subscribers know", func() bool { return strings.Contains(sub.last("sightd/box/releases/lite0"), "sightd release activate") })
		if first {
			if _, loads, _ := spare.counted(); loads > 0 || d.model().Frames > 0 {
				t.Error("a held release served")
			}
			stop()
			continue
		}
		if err := d.activate("lite0", rel.ID()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it serves", func() bool { m := d.model(); return m.State == modelServing && m.Frames > 3 && m.Reason == "" })
		stop()
	}
}
