package daemon

import (
	"encoding/json"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sightd/sightd/camera"
	"github.com/sightd/sightd/mqtt"
)

// publisher brings events and states to subscribers. It never waits.
type publisher interface {
	Publish(mqtt.Event) error
	// SetState makes the payload what the retained topic says; empty clears it.
	SetState(topic string, payload []byte)
}

// silent is the publisher where the configuration names no broker.
type silent struct{}

func (silent) Publish(mqtt.Event) error { return nil }
func (silent) SetState(string, []byte)  {}

// watch is one camera as one model sees it: it decides, and says what was
// decided to the subscribers. Its observe belongs to the model's runner.
type watch struct {
	camera, model string
	events        Events
	publisher     publisher

	// Of the release that serves; changed by the runner alone, between frames.
	labels  []string
	decider *decider
	source  mqtt.Model
	first   int

	labelled bool // a label is current

	frames atomic.Uint64 // classified

	mu     sync.Mutex
	status LabelStatus
}

func newWatch(camera, model string, events Events, p publisher) *watch {
	w := &watch{camera: camera, model: model, events: events, publisher: p}
	w.status = LabelStatus{Model: model, Label: mqtt.NoLabel, Since: time.Now().UTC()}
	return w
}

// serve makes the watch speak for another release from the next frame on. The
// current label stands, where the new release knows it.
func (w *watch) serve(source mqtt.Model, p *Prepared) {
	w.source, w.labels, w.first = source, p.Labels, p.First
	w.decider = newDecider(w.events, p.Labels)
	w.mu.Lock()
	label := w.status.Label
	w.mu.Unlock()
	i := none
	if w.labelled { // a class may be called none, too
		i = slices.Index(p.Labels, label)
	}
	w.decider.current, w.decider.candidate = i, i // -1, where it isn't there, is none
	if i == none {
		w.state(none, 0, nil, monotonic())
	}
}

// observe takes one classified frame: top are its best labels, now is when it
// was classified. It allocates only where it publishes.
func (w *watch) observe(f camera.Frame, scores []float32, top []Score, infer, now time.Duration) {
	captured := time.Duration(f.Captured)
	w.frames.Add(1)
	v := w.decider.observe(scores[w.first:], captured)
	if v.changed {
		w.state(v.seen, v.score, top, captured)
	}
	if !v.event {
		return
	}
	e := mqtt.Event{
		Time: mqtt.Time{Time: wall(now)},
		Data: mqtt.Classification{
			Camera:  w.camera,
			Model:   w.source,
			Label:   w.labels[v.seen],
			Frame:   mqtt.Frame{Seq: f.Seq, Captured: mqtt.Time{Time: wall(captured)}, AgeMS: (now - captured).Milliseconds()},
			Top:     w.named(top),
			Latency: mqtt.Latency{Preprocess: mqtt.Millis(f.ScaleNS), Infer: mqtt.Millis(infer)},
		},
	}
	_ = w.publisher.Publish(e) // what no outbox takes is counted there, by cause
}

// state makes the label with the given index current.
func (w *watch) state(label int, score float32, top []Score, at time.Duration) {
	name := mqtt.NoLabel
	w.labelled = label != none
	if label != none {
		name = w.labels[label]
	}
	s := LabelStatus{Model: w.model, Label: name, Score: score, Since: wall(at)}
	w.mu.Lock()
	w.status = s
	w.mu.Unlock()
	attributes, err := json.Marshal(mqtt.Attributes{
		Score: score, Top: w.named(top), Release: w.source.Release, Since: mqtt.Time{Time: s.Since},
	})
	if err != nil {
		panic(err) // numbers and text; scores are finite here
	}
	// The attributes go first: who reads them at a change of the label finds
	// those that belong to it.
	w.publisher.SetState(mqtt.TopicAttributes(w.camera, w.model), attributes)
	w.publisher.SetState(mqtt.TopicClassification(w.camera, w.model), []byte(name))
}

func (w *watch) named(top []Score) []mqtt.Label {
	labels := make([]mqtt.Label, len(top))
	for i, s := range top {
		labels[i] = mqtt.Label{Label: w.labels[s.Index], Index: s.Index, Score: s.Score}
	}
	return labels
}

// Status returns the current label.
func (w *watch) Status() LabelStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status
}
