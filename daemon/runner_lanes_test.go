package daemon

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/sightd/sightd/camera"
	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/mqtt"
	"github.com/sightd/sightd/release"
)

// everyFrame has an event for each frame.
func everyFrame(c *Config) {
	c.Events.Mode, c.Events.MinScore, c.Events.MaxRate = "every", 0, 0
}

// events are a camera's, in the order in which they came.
func events(t *testing.T, sub *subscriber, camera string) (all []mqtt.Event) {
	t.Helper()
	for _, raw := range sub.on("sightd/box/" + camera + "/events") {
		var e mqtt.Event
		if err := json.Unmarshal([]byte(raw), &e); err != nil {
			t.Fatalf("%v in %s", err, raw)
		}
		all = append(all, e)
	}
	return all
}

// inOrder holds a camera's events to be of every frame from the first on, each
// once, in order.
func inOrder(t *testing.T, sub *subscriber, camera string) []mqtt.Event {
	t.Helper()
	all := events(t, sub, camera)
	for i, e := range all {
		if e.Data.Frame.Seq != uint64(i+1) {
			t.Fatalf("event %d of camera %s is of frame %d", i+1, camera, e.Data.Frame.Seq)
		}
	}
	return all
}

// begin runs a daemon as start does, with the options of a test.
func begin(t *testing.T, c *Config, o Options) (*Daemon, <-chan error) {
	t.Helper()
	o.Version, o.Worker, o.Log = "1.2.3", testenv.Worker(t), testLog(t)
	d, err := New(c, o)
	if err != nil {
		t.Fatal(err)
	}
	return d, runs(t, d)
}

func TestTwoLanesRunAtOnceAndAnswerInOrder(t *testing.T) {
	t.Parallel()
	for name, batch := range map[string]Batch{"single": 1, "batch": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := testConfig(t,
				CameraConfig{Name: "left", Source: "test:noise?frames=40&each=true"},
				CameraConfig{Name: "right", Source: "test:bars?frames=40&each=true"})
			everyFrame(c)
			c.Inference.Batch = batch
			c.Models[0].WhileBuilding = "wait"
			sub := subscribe(t, "mqtt://"+c.MQTT.Embedded)
			var d *Daemon
			b := &scripted{name: "scripted", lanes: 2, waiting: func() {
				// Results are late, so that the frames come first.
				set := d.units[0].serving
				for set != nil && slices.ContainsFunc(set.streams, func(s *stream) bool {
					return !s.lane.Waiting() && !s.lane.Ended()
				}) {
					<-d.units[0].runner.wake
				}
			}}
			o := Options{UntilEnd: true, backend: b, Version: "1", Worker: testenv.Worker(t), Log: testLog(t)}
			d, err := New(c, o)
			if err != nil {
				t.Fatal(err)
			}
			if err := <-runs(t, d); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"left", "right"} {
				if n := len(inOrder(t, sub, name)); n != 40 {
					t.Errorf("camera %s: %d events for 40 frames", name, n)
				}
			}
			if b.most != 2 || len(b.faults) > 0 || b.open != 0 {
				t.Errorf("%d runs at once, faults %q, %d engines open; want 2, none, 0", b.most, b.faults, b.open)
			}
		})
	}
}

// handLanes is a set of two lanes over a camera that never runs, and a runner
// for it.
func handLanes(t *testing.T, batch int, sink func(*Result)) (*runner, *laneSet, *scripted) {
	t.Helper()
	rel, err := release.Open(spec(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rel.Close() })
	b := &scripted{name: "scripted", lanes: 2}
	p, err := b.Prepare(rel, PrepareOptions{Batch: batch})
	if err != nil {
		t.Fatal(err)
	}
	e, err := b.Load(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	cam, err := camera.New(camera.Options{Name: "noise", Source: "test:noise", Worker: testenv.Worker(t), Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cam.Close() })
	r := newRunner(sink)
	set, err := attach(&OpenedEngine{Engine: e}, p, []view{{name: "noise", camera: cam, region: [4]float64{0, 0, 1, 1}}}, r.wake)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(set.Close)
	return r, set, b
}

func TestARunAllocatesNothing(t *testing.T) {
	for _, batch := range []int{1, 2} {
		results := 0
		r, set, _ := handLanes(t, batch, func(*Result) { results++ })
		s := set.streams[0]
		slot := 0
		if n := testing.AllocsPerRun(100, func() {
			n := r.free(set)
			f := camera.Frame{Slot: slot, Seq: 1}
			slot = (slot + 1) % len(s.lane.Slots())
			if batch == 1 {
				n.frames, n.from = append(n.frames, f), append(n.from, s)
				r.start(set, n, s.bindings[f.Slot])
				return
			}
			n.frames, n.from = append(n.frames, f, f), append(n.from, s, s)
			r.flush(set, n)
		}); n != 0 {
			t.Errorf("batch %d: %v allocations a run, want none", batch, n)
		}
		r.drain(set)
		if results != 101*batch { // AllocsPerRun warms up
			t.Errorf("batch %d: %d results of 101 runs", batch, results)
		}
	}
}

// While the sink works, the lane works on the next frame.
func TestTheNextRunBeginsBeforeTheLastOneIsSaid(t *testing.T) {
	t.Parallel()
	var b *scripted
	var busy []int // runs under way when each result was said
	r, set, made := handLanes(t, 1, func(*Result) { busy = append(busy, b.running()) })
	b = made
	s := set.streams[0]
	for seq := range uint64(4) {
		n := r.free(set)
		n.frames, n.from = append(n.frames, camera.Frame{Seq: seq + 1}), append(n.from, s)
		r.start(set, n, s.bindings[int(seq)%len(s.bindings)])
		r.say(set)
	}
	r.drain(set)
	if want := []int{2, 2, 1, 0}; !slices.Equal(busy, want) {
		t.Errorf("%v runs under way when the results were said, want %v", busy, want)
	}
}

func TestAnEngineThatCannotStartAnswersInOrderToo(t *testing.T) {
	t.Parallel()
	type answer struct {
		seq    uint64
		failed bool
	}
	var got []answer
	r, set, b := handLanes(t, 1, func(r *Result) { got = append(got, answer{r.Frame.Seq, errors.Is(r.Err, errScripted) && r.Engine}) })
	s := set.streams[0]
	begin := func(seq uint64) {
		n := r.free(set)
		n.frames, n.from = append(n.frames, camera.Frame{Seq: seq}), append(n.from, s)
		r.start(set, n, s.bindings[seq%2])
	}
	begin(1)
	b.waiting = func() { b.fail(nil) } // what is under way ends well
	b.fail(errScripted)
	begin(2)
	b.waiting = nil
	begin(3)
	r.unread(set, s, camera.Frame{Seq: 4, Err: "no picture"})
	want := []answer{{1, false}, {2, true}, {3, false}, {4, false}}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
