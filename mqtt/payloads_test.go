package mqtt

import (
	"bytes"
	"encoding/json"
	"flag"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"
)

var update = flag.Bool("update", false, "rewrite the files in testdata")

// golden compares v's JSON with testdata/name.
func golden(t *testing.T, name string, v any) {
	t.Helper()
	got, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

var moment = Time{time.Date(2026, 11, 22, 23, 30, 0, 123_456_789, time.UTC)}

func TestPayloads(t *testing.T) {
	t.Parallel()
	top := []Label{{"person", 0, 0.93}, {"umbrella, red", 879, 0.0125}}
	golden(t, "event.json", Event{
		SpecVersion: "1.0", ID: "01KAQ1WM3VJ3N1W7YTJ6BMGG3S", Source: "/sightd/dev1/cam0",
		Type: EventType, Time: moment, DataContentType: "application/json",
		Data: Classification{
			Camera:  "cam0",
			Model:   Model{Name: "m", Release: 17, Engine: "sha256-5f2d"},
			Frame:   Frame{91, Time{moment.Add(-42 * time.Millisecond)}, 42},
			Label:   "person",
			Top:     top,
			Latency: Latency{Millis(400 * time.Microsecond), Millis(3100499 * time.Nanosecond)},
		},
	})
	golden(t, "attributes.json", Attributes{Score: 0.93, Top: top, Release: 17, Since: moment})
	golden(t, "health.json", Health{
		Time:         moment,
		Versions:     map[string]string{"sightd": "0.1.0", "onnxruntime": "1.32.0"},
		Uptime:       3600.5,
		Rates:        map[string]Rates{"cam0": {30, 14.9}},
		Drops:        Drops{map[string]uint64{"cam0": 12}, map[string]uint64{DropAge: 0, DropBytes: 3}},
		Temperatures: map[string]float64{"cpu-thermal": 47.5},
		Session:      SessionHealth{Broker: "mqtts://broker:8883", Warnings: []string{"mqtt.cert_file: it ends soon"}},
		Outbox:       OutboxHealth{Durability: "always", Queued: 2, Bytes: 1310, Oldest: 1.5, Reconnects: 4, Written: 24576},
	})
	half := 0.5
	golden(t, "release.json", Release{Release: 17, State: "staged", Progress: &half, Phase: "optimise", Since: moment})
	golden(t, "release_rejected.json", Release{Release: 18, State: "rejected", Reason: "coverage 0.71: want 1", Since: moment})
}

// The rules of the CloudEvents 1.0 JSON schema that apply to the fields there are.
func TestEventIsACloudEvent(t *testing.T) {
	t.Parallel()
	c := newClient(t, Options{URL: "mqtt://localhost", Device: "dev 1"}, quick())
	e := event("Türe", 7)
	e.Time = moment
	if err := c.Publish(e); err != nil {
		t.Fatal(err)
	}
	messages := c.outbox.After(0, 1)
	if len(messages) != 1 {
		t.Fatalf("outbox holds %v", messages)
	}
	var attributes map[string]any
	if err := json.Unmarshal(messages[0].Payload, &attributes); err != nil {
		t.Fatal(err)
	}
	for name := range attributes {
		if name != strings.ToLower(name) || strings.ContainsAny(name, "_-") {
			t.Errorf("attribute %q: CloudEvents' names have a-z and 0-9 only", name)
		}
	}
	for name, want := range map[string]string{
		"specversion": "1.0", "type": EventType, "datacontenttype": "application/json",
		"source": "/sightd/dev%201/T%C3%BCre", "time": "2026-11-22T23:30:00.123Z", "id": messages[0].ID,
	} {
		if attributes[name] != want {
			t.Errorf("%s is %v, want %s", name, attributes[name], want)
		}
	}
	if _, err := url.Parse(attributes["source"].(string)); err != nil {
		t.Errorf("source is no URI reference: %v", err)
	}
	if _, err := time.Parse(time.RFC3339, attributes["time"].(string)); err != nil {
		t.Error(err)
	}
	id, err := ulid.ParseStrict(messages[0].ID)
	if err != nil || id.Time() != uint64(moment.UnixMilli()) {
		t.Errorf("id is %s (%v), want a ULID of the event's time", messages[0].ID, err)
	}
	if messages[0].Topic != "sightd/dev 1/Türe/events" {
		t.Errorf("topic is %s", messages[0].Topic)
	}
}

func TestIDsGrowWhenTheClockGoesBack(t *testing.T) {
	t.Parallel()
	g := newIDs()
	last := ""
	for i := range 10_000 {
		id, err := g.next(moment.Add(-time.Duration(i) * time.Second))
		if err != nil {
			t.Fatal(err)
		}
		if id <= last {
			t.Fatalf("id %s comes after %s", id, last)
		}
		last = id
	}
	if _, err := newIDs().next(time.Unix(-5, 0)); err != nil {
		t.Errorf("before 1970: %v", err)
	}
}

func TestEventsThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*Event){
		"camera":         func(e *Event) { e.Data.Camera = "a/b" },
		"device itself":  func(e *Event) { e.Data.Camera = "health" },
		"no labels":      func(e *Event) { e.Data.Top = nil },
		"finite number":  func(e *Event) { e.Data.Top[0].Score = float32(math.NaN()) },
		"RFC 3339":       func(e *Event) { e.Data.Frame.Captured.Time = time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"at most 131072": func(e *Event) { e.Data.Top[0].Label = strings.Repeat("x", maxPayload) },
	} {
		c := newClient(t, Options{URL: "mqtt://localhost"}, quick())
		e := event("cam0", 1)
		change(&e)
		err := c.Publish(e)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want one with %q", err, want)
		}
		s := c.Stats()
		if s.Published != 1 || s.Queued != 0 || s.Dropped[DropInvalid]+s.Dropped[DropSize] != 1 {
			t.Errorf("%s: stats are %+v, want the event counted as dropped", want, s)
		}
	}
}

func FuzzMillis(f *testing.F) {
	f.Add([]byte("3.1"))
	f.Add([]byte("1e300"))
	f.Add([]byte("-0.001"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var m Millis
		if json.Unmarshal(b, &m) != nil {
			return
		}
		first, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var again Millis
		if err := json.Unmarshal(first, &again); err != nil {
			t.Fatal(err)
		}
		if second, _ := json.Marshal(again); !bytes.Equal(first, second) {
			t.Errorf("%s is written as %s, then as %s", b, first, second)
		}
	})
}
