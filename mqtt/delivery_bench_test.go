package mqtt

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"golang.org/x/sys/unix"
)

// Each figure about delivery in docs/performance.md is of one of these, each of
// which measures by itself: go test -run '^$' -bench Delivery -benchtime 1x ./mqtt
//
// Where there is a ratio, both sides have the same broker (mosquitto, with files as
// it comes), the same payloads and the same window, and take turns.

const (
	benchEvents = 10_000 // of a turn
	benchTurns  = 5
	benchRounds = 400 // single events of a turn
)

var benchStart = time.Now()

// benchMessage is an event as it is published, every time another one: what
// compresses is no more alike than a day's events are.
func benchMessage(b testing.TB, ids *ids, n int) Message {
	e := event(fmt.Sprint("cam", n%4), n)
	e.Data.Top = nil
	for range 3 {
		e.Data.Top = append(e.Data.Top, Label{Label: fmt.Sprint("label ", rand.IntN(100)), Score: rand.Float32()})
	}
	e.Time.Time = benchStart.Add(time.Duration(n) * 50 * time.Millisecond)
	id, err := ids.next(e.Time.Time)
	if err != nil {
		b.Fatal(err)
	}
	e.SpecVersion, e.ID, e.Type, e.DataContentType = "1.0", id, EventType, "application/json"
	e.Source = source(defaultPrefix, "dev1", e.Data.Camera)
	payload, err := json.Marshal(&e)
	if err != nil {
		b.Fatal(err)
	}
	return Message{ID: id, Topic: defaultPrefix + "/dev1/" + TopicEvents(e.Data.Camera), Payload: payload}
}

func benchMessages(b testing.TB, n int) []Message {
	ids := newIDs()
	all := make([]Message, n)
	for i := range all {
		all[i] = benchMessage(b, ids, i)
	}
	return all
}

// A side is one way to bring messages to a broker.
type side interface {
	// bring brings all, and is over when all are acknowledged.
	bring(all []Message) error
	end() error
}

// barePaho is what one would write with paho alone.
type barePaho struct{ client paho.Client }

func newBarePaho(b testing.TB, url string) side {
	o := paho.NewClientOptions().AddBroker(url).SetClientID("bare").SetOrderMatters(false).SetWriteTimeout(5 * time.Second)
	s := barePaho{paho.NewClient(o)}
	if t := s.client.Connect(); !t.WaitTimeout(patience) || t.Error() != nil {
		b.Fatalf("connect: %v", t.Error())
	}
	return s
}

func (s barePaho) bring(all []Message) error {
	var flights []paho.Token
	for len(all) > 0 || len(flights) > 0 {
		if len(all) > 0 && len(flights) < window {
			flights = append(flights, s.client.Publish(all[0].Topic, 1, false, all[0].Payload))
			all = all[1:]
			continue
		}
		<-flights[0].Done()
		if err := flights[0].Error(); err != nil {
			return err
		}
		flights = flights[1:]
	}
	return nil
}

func (s barePaho) end() error { s.client.Disconnect(1000); return nil }

// throughOutbox is a client with an outbox in a file, or in memory.
type throughOutbox struct {
	outbox *Outbox
	client *Client
	stop   func() error
}

func newThroughOutbox(b testing.TB, url string, d Durability) *throughOutbox {
	o, err := OpenOutbox(filepath.Join(b.TempDir(), "outbox.db"), Limits{}, d, nil)
	if err != nil {
		b.Fatal(err)
	}
	c, err := New(Options{URL: url, Device: "dev-" + string(d), Outbox: o})
	if err != nil {
		b.Fatal(err)
	}
	c.timing = quick()
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- c.Run(ctx) }()
	for until := time.Now().Add(patience); !c.Status().Connected; time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			b.Fatalf("no connection: %s", c.Status().Error)
		}
	}
	return &throughOutbox{o, c, func() error { cancel(); return errors.Join(<-ran, o.Close()) }}
}

// bring lets no more wait than the broker acknowledges soon, as when all is well.
func (s *throughOutbox) bring(all []Message) error {
	for _, m := range all {
		for s.outbox.Len() >= 20*window {
			time.Sleep(100 * time.Microsecond)
		}
		if err := s.outbox.Append(m); err != nil {
			return err
		}
		s.client.stir()
	}
	for {
		s.client.mu.Lock()
		progress := s.client.progress
		s.client.mu.Unlock()
		if s.outbox.Len() == 0 {
			return nil
		}
		<-progress
	}
}

func (s *throughOutbox) end() error { return s.stop() }

// turns measures sides in turns: seconds of each, by side and turn.
func turns(b testing.TB, sides []side, n int, measure func(side) float64) [][]float64 {
	seconds := make([][]float64, len(sides))
	for range n {
		for i, s := range sides {
			seconds[i] = append(seconds[i], measure(s))
		}
	}
	for _, s := range sides {
		if err := s.end(); err != nil {
			b.Error(err)
		}
	}
	return seconds
}

func middle(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}

// ratio is the median of a's figures over b's, turn by turn.
func ratio(a, b []float64) float64 {
	var all []float64
	for i := range a {
		all = append(all, a[i]/b[i])
	}
	return middle(all)
}

func benchBroker(b *testing.B) string {
	return newMosquitto(b, "allow_anonymous true").start().url("mqtt")
}

// Events a second, as fast as it goes.
func BenchmarkDeliveryThroughput(b *testing.B) {
	url := benchBroker(b)
	outage, always := newThroughOutbox(b, url, Outage), newThroughOutbox(b, url, Always)
	sides := []side{newBarePaho(b, url), newThroughOutbox(b, url, Memory), outage, always}
	all := benchMessages(b, benchEvents)
	seconds := turns(b, sides, benchTurns, func(s side) float64 {
		start := time.Now()
		if err := s.bring(all); err != nil {
			b.Fatal(err)
		}
		return time.Since(start).Seconds()
	})
	for i, name := range []string{"paho", "memory", "outage", "always"} {
		b.ReportMetric(benchEvents/middle(seconds[i]), name+"-events/s")
		if i > 0 {
			b.ReportMetric(ratio(seconds[0], seconds[i]), name+"/paho")
		}
	}
	const events = benchEvents * benchTurns
	b.ReportMetric(float64(always.outbox.Stats().Written)/events, "always-written-B/event")
	b.ReportMetric(float64(outage.outbox.Stats().Written)/events, "outage-written-B/event")
	b.ReportMetric(float64(len(all[0].Payload)), "payload-B")
	b.ReportMetric(syncTakes(b), "sync-ms")
	b.ReportMetric(0, "ns/op")
}

// syncTakes is how long the disk takes for a page and its sync, in ms: what bounds
// [Always], which has two for each commit.
func syncTakes(b *testing.B) float64 {
	f, err := os.Create(filepath.Join(b.TempDir(), "sync"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	var all []float64
	for range 100 {
		start := time.Now()
		_, err := f.WriteAt(make([]byte, diskPage), 0)
		if err = errors.Join(err, unix.Fdatasync(int(f.Fd()))); err != nil {
			b.Fatal(err)
		}
		all = append(all, float64(time.Since(start).Microseconds())/1000)
	}
	return middle(all)
}

// From Publish to PUBACK, one event at a time.
func BenchmarkDeliveryLatency(b *testing.B) {
	url := benchBroker(b)
	sides := []side{newBarePaho(b, url), newThroughOutbox(b, url, Memory), newThroughOutbox(b, url, Outage)}
	all := benchMessages(b, benchRounds)
	each := make(map[side][]float64)
	turns(b, sides, benchTurns, func(s side) float64 {
		for i := range all {
			time.Sleep(time.Millisecond)
			start := time.Now()
			if err := s.bring(all[i : i+1]); err != nil {
				b.Fatal(err)
			}
			each[s] = append(each[s], float64(time.Since(start).Microseconds())/1000)
		}
		return 0
	})
	bare := each[sides[0]]
	for i, name := range []string{"paho", "memory", "outage"} {
		v := each[sides[i]]
		slices.Sort(v)
		b.ReportMetric(middle(v), name+"-ms")
		b.ReportMetric(v[len(v)*99/100], name+"-p99-ms")
		if i > 0 {
			b.ReportMetric(middle(v)-middle(bare), name+"-added-ms")
		}
	}
	b.ReportMetric(0, "ns/op")
}

// Bytes given to the file for each event at one event a second, with a broker and
// without.
func BenchmarkDeliverySlowly(b *testing.B) {
	const seconds = 20
	url, nowhere := benchBroker(b), "mqtt://127.0.0.1:1"
	type way struct {
		name string
		o    *Outbox
		c    *Client
	}
	var ways []way
	for _, d := range []Durability{Always, Outage} {
		s := newThroughOutbox(b, url, d)
		defer func() { _ = s.end() }()
		ways = append(ways, way{string(d), s.outbox, s.client})
		o, err := OpenOutbox(filepath.Join(b.TempDir(), "outbox.db"), Limits{}, d, nil)
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = o.Close() }()
		c, err := New(Options{URL: nowhere, Device: "dev1", Outbox: o})
		if err != nil {
			b.Fatal(err)
		}
		ways = append(ways, way{string(d) + "-offline", o, c})
	}
	before := make([]OutboxStats, len(ways))
	for i, w := range ways {
		before[i] = w.o.Stats()
	}
	for _, m := range benchMessages(b, seconds) {
		for _, w := range ways {
			if err := w.o.Append(m); err != nil {
				b.Fatal(err)
			}
			w.c.stir()
		}
		time.Sleep(time.Second)
	}
	time.Sleep(2 * prompt)
	for i, w := range ways {
		s := w.o.Stats()
		b.ReportMetric(float64(s.Written-before[i].Written)/seconds, w.name+"-written-B/event")
		b.ReportMetric(float64(s.Syncs-before[i].Syncs)/seconds, w.name+"-syncs/event")
	}
	b.ReportMetric(0, "ns/op")
}

// A million events wait, in processes of their own: one that appends them, and two
// that find them, the second with nothing of the file in the system's memory.
func BenchmarkDeliveryMillion(b *testing.B) {
	path := filepath.Join(b.TempDir(), "outbox.db")
	for _, step := range []string{"append", "warm", "cold"} {
		c := process(b, "million", "MILLION="+path, "MILLION_STEP="+step)
		c.Stderr = os.Stderr
		out, err := c.Output()
		if err != nil {
			b.Fatalf("%s: %v\n%s", step, err, out)
		}
		lines := bufio.NewScanner(strings.NewReader(string(out)))
		for lines.Scan() {
			var unit string
			var value float64
			if _, err := fmt.Sscan(lines.Text(), &unit, &value); err != nil {
				b.Fatalf("%s: %q: %v", step, lines.Text(), err)
			}
			b.ReportMetric(value, step+"-"+unit)
		}
	}
	b.ReportMetric(0, "ns/op")
}

const million = 1_000_000

// beMillion is such a process; what it prints are units and values.
func beMillion() error {
	path, step := os.Getenv("MILLION"), os.Getenv("MILLION_STEP")
	if step == "cold" {
		if err := forget(path); err != nil {
			return err
		}
	}
	start := time.Now()
	o, err := OpenOutbox(path, Limits{MaxBytes: 1 << 30}, Always, nil)
	if err != nil {
		return err
	}
	most := 0.0
	if step == "append" {
		ids := newIDs()
		for i := range million {
			m := benchMessage(fatal{}, ids, i)
			for o.Append(m) != nil { // memory is full of what waits for the disk
				time.Sleep(time.Millisecond)
			}
			if i%10_000 == 0 {
				most = max(most, rssAnon())
			}
		}
		for o.Stats().Queued != million || len(unwritten(o)) > 0 {
			time.Sleep(10 * time.Millisecond)
		}
	} else {
		for {
			messages := o.After(0, window)
			if len(messages) > 0 {
				break
			}
		}
	}
	took := time.Since(start).Seconds()
	s := o.Stats()
	most = max(most, rssAnon())
	runtime.GC()
	var heap runtime.MemStats
	runtime.ReadMemStats(&heap)
	fmt.Println("s", took)
	fmt.Println("queued", s.Queued)
	fmt.Println("rss-anon-MiB", most)
	fmt.Println("heap-MiB", float64(heap.HeapAlloc)/(1<<20))
	if step == "append" {
		fmt.Println("written-B/event", float64(s.Written)/million)
		fmt.Println("kept-B/event", float64(s.Bytes)/million)
	}
	return o.Close()
}

func unwritten(o *Outbox) []queued {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.queue.items()
}

// forget has the system forget what it holds of a file in memory.
func forget(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return err
	}
	return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}

// rssAnon is the memory of this process that isn't a file's, in MiB.
func rssAnon() float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "RssAnon:")
	kib, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	return kib / 1024
}

// fatal is where there is no test.
type fatal struct{ testing.TB }

func (fatal) Fatal(what ...any) { panic(fmt.Sprint(what...)) }
