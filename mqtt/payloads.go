package mqtt

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"time"
)

// EventType is the CloudEvents type of a classification event. The number
// grows when a field changes its meaning; added fields don't change it.
const EventType = "io.github.sightd.classification.v1"

// An Event is a CloudEvents 1.0 event in its structured JSON form. Publish
// fills in all but Time and Data; Time too where it is zero.
type Event struct {
	SpecVersion     string         `json:"specversion"`
	ID              string         `json:"id"`     // ULID; grows within a process
	Source          string         `json:"source"` // /PREFIX/DEVICE/CAMERA, a URI reference
	Type            string         `json:"type"`
	Time            Time           `json:"time"` // when the change was decided
	DataContentType string         `json:"datacontenttype"`
	Data            Classification `json:"data"`
}

// A Classification is what one camera's frame was found to be by one model.
type Classification struct {
	Camera  string  `json:"camera"`
	Model   Model   `json:"model"`
	Frame   Frame   `json:"frame"`
	Label   string  `json:"label"` // what was seen: the best that the rules allow
	Top     []Label `json:"top"`   // best first
	Latency Latency `json:"latency_ms"`
}

// A Model names what classified.
type Model struct {
	Name     string `json:"name"`
	Release  int    `json:"release"`
	Revision int64  `json:"revision,omitempty"` // of the release: that of the drop-in that is in it
	Engine   string `json:"engine"`             // the engine's key
}

// A Frame is the picture that was looked at.
type Frame struct {
	Seq      uint64 `json:"seq"` // counts the camera's frames
	Captured Time   `json:"captured"`
	AgeMS    int64  `json:"age_ms"` // from capture to decision
}

// A Label is a class with its score from 0 to 1.
type Label struct {
	Label string  `json:"label"`
	Index int     `json:"index"`
	Score float32 `json:"score"`
}

// Latency is where a frame's time went; in JSON, milliseconds.
type Latency struct {
	Preprocess Millis `json:"preprocess"`
	Infer      Millis `json:"infer"`
}

// Attributes stand beside the current label. Since is when it became current.
type Attributes struct {
	Score   float32 `json:"score"` // 0 with NoLabel
	Top     []Label `json:"top"`
	Release int     `json:"release"`
	Since   Time    `json:"since"`
}

// Health is published every 30 s.
type Health struct {
	Time         Time               `json:"time"`
	Versions     map[string]string  `json:"versions"` // sightd, go, and each back end found
	Uptime       float64            `json:"uptime"`   // seconds
	Rates        map[string]Rates   `json:"rates"`    // by camera
	Drops        Drops              `json:"drops"`
	Temperatures map[string]float64 `json:"temperatures"` // °C, by thermal zone
	Session      SessionHealth      `json:"session"`
	Outbox       OutboxHealth       `json:"outbox"`
	Degraded     []string           `json:"degraded,omitempty"` // models whose release should be left, with none to go back to
}

// Rates are a camera's frames a second over the last period.
type Rates struct {
	Captured   float64 `json:"captured"`
	Classified float64 `json:"classified"`
}

// Drops counts what was given up since the start.
type Drops struct {
	Frames map[string]uint64 `json:"frames"` // by camera: a newer one came first
	Events map[string]uint64 `json:"events"` // by cause, as in Stats
}

// SessionHealth says with which broker there is a session, and what about it
// needs somebody's hand.
type SessionHealth struct {
	Broker   string   `json:"broker"` // SCHEME://HOST:PORT
	Warnings []string `json:"warnings,omitempty"`
}

// OutboxHealth says what waits for the broker.
type OutboxHealth struct {
	Durability string  `json:"durability"` // what becomes of events at a crash, at the moment: always, outage or memory
	Queued     int     `json:"queued"`
	Bytes      int64   `json:"bytes"`
	Oldest     float64 `json:"oldest"` // seconds that the oldest has waited
	Reconnects uint64  `json:"reconnects"`
	Written    int64   `json:"written"`         // bytes given to the disk since the start
	Error      string  `json:"error,omitempty"` // why the disk refuses, so that events are in memory alone
}

// A Release is the state of a model's newest release.
type Release struct {
	Release  int      `json:"release"`
	Revision int64    `json:"revision,omitempty"` // of the drop-in that is in it
	State    string   `json:"state"`
	Code     string   `json:"code,omitempty"`     // of a rejection or roll-back, for programs
	Reason   string   `json:"reason,omitempty"`   // the same for people
	Progress *float64 `json:"progress,omitempty"` // of a build that is under way, 0 to 1
	Phase    string   `json:"phase,omitempty"`    // what the build is doing
	Since    Time     `json:"since"`

	// What serves meanwhile, as when a newer one is proven or was rejected; absent: nothing does.
	Serving         int   `json:"serving,omitempty"`
	ServingRevision int64 `json:"serving_revision,omitempty"`
}

// A Time is written as RFC 3339 in UTC with milliseconds.
type Time struct{ time.Time }

const timeLayout = "2006-01-02T15:04:05.000Z"

func (t Time) MarshalJSON() ([]byte, error) {
	u := t.UTC()
	if y := u.Year(); y < 0 || y > 9999 {
		return nil, fmt.Errorf("time %v: RFC 3339 has years 0 to 9999", u)
	}
	return u.AppendFormat(make([]byte, 0, len(timeLayout)+2), `"`+timeLayout+`"`), nil
}

// Millis is a duration that is written as milliseconds, to the microsecond.
type Millis time.Duration

func (m Millis) MarshalJSON() ([]byte, error) {
	return json.Marshal(float64(time.Duration(m).Round(time.Microsecond)) / float64(time.Millisecond))
}

func (m *Millis) UnmarshalJSON(b []byte) error {
	var ms float64
	if err := json.Unmarshal(b, &ms); err != nil {
		return err
	}
	ns := ms * float64(time.Millisecond)
	if math.Abs(ns) >= math.MaxInt64 {
		return fmt.Errorf("%s milliseconds: more than a duration holds", b)
	}
	*m = Millis(time.Duration(math.Round(ns)))
	return nil
}

// check says what would make an event invalid JSON or an unusable topic.
func (d *Classification) check() error {
	if err := CheckCamera(d.Camera); err != nil {
		return fmt.Errorf("camera: %w", err)
	}
	if len(d.Top) == 0 {
		return errors.New("no labels in top")
	}
	for _, l := range d.Top {
		if s := float64(l.Score); math.IsNaN(s) || math.IsInf(s, 0) {
			return fmt.Errorf("score of label %q is %v: want a finite number", l.Label, s)
		}
	}
	return nil
}

// source is the event's source attribute, escaped where a name needs it.
func source(prefix, device, camera string) string {
	return (&url.URL{Path: "/" + prefix + "/" + device + "/" + camera}).EscapedPath()
}
