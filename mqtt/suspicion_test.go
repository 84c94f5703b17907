package mqtt

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/sightd/sightd/internal/testenv"
)

// large is an event of at least n bytes.
func large(camera string, seq, n int) Event {
	e := event(camera, seq)
	e.Data.Top[0].Label = strings.Repeat("x", n)
	return e
}

// quickSuspect has refused messages given up soon.
func quickSuspect() timing {
	tm := quick()
	tm.suspect = 10 * time.Millisecond
	return tm
}

// mosquitto closes the connection at a packet that is larger than it takes. Such
// messages are given up, counted and said, and all others arrive in order.
func TestMessagesThatTheBrokerRefuses(t *testing.T) {
	t.Parallel()
	m := newMosquitto(t, "allow_anonymous true\nmax_packet_size 4000").start()
	seen := subscribe(t, m.url("mqtt"), "sightd/#")
	var log testenv.Buffer
	c := newClient(t, Options{URL: m.url("mqtt"), Log: slog.New(slog.NewTextHandler(&log, nil))}, quickSuspect())
	c.SetState("inbox", []byte(strings.Repeat("y", 5000)))
	c.SetState(TopicHealth, []byte("{}"))
	seq, refused := 0, 0
	for i := range 300 {
		e := event("cam0", seq+1)
		if i == 100 || i == 101 || i == 250 {
			e = large("cam1", i, 5000)
			refused++
		} else {
			seq++
		}
		if err := c.Publish(e); err != nil {
			t.Fatal(err)
		}
	}
	run(t, c)
	drain(t, c)
	eventually(t, "the last event", func() bool { return len(sequence(t, seen.on("sightd/dev1/cam0/events"))) == seq })
	wantSequence(t, sequence(t, seen.on("sightd/dev1/cam0/events")), seq)
	eventually(t, "the other state", func() bool { return seen.last("sightd/dev1/health") == "{}" })
	s := c.Stats()
	if s.Acked != uint64(seq) || s.Dropped[DropRefused] != uint64(refused) || s.StatesRefused != 1 || s.StatesPending != 0 {
		t.Errorf("stats are %+v, want %d acked, %d events and one state refused", s, seq, refused)
	}
	eventually(t, "a connection that stays", func() bool { return c.Status().Connected })
	if all := strings.Join(c.Status().Warnings, "; "); !strings.Contains(all, "given up") || !strings.Contains(all, "raise its limit") {
		t.Errorf("warnings are %q", all)
	}
	if n := strings.Count(log.String(), "a message is given up"); n != refused+1 {
		t.Errorf("%d lines of the log say it, want %d", n, refused+1)
	}
	if !strings.Contains(log.String(), "sightd/dev1/cam1/events") || strings.Contains(log.String(), "seems to connect") {
		t.Errorf("the log says\n%s", log.String())
	}
	// The topic of the state isn't tried again at once.
	sessions := s.Reconnects
	c.SetState("inbox", []byte(strings.Repeat("z", 5000)))
	if err := c.Publish(event("cam0", seq+1)); err != nil {
		t.Fatal(err)
	}
	drain(t, c)
	if s := c.Stats(); s.Reconnects != sessions || s.StatesRefused != 2 || s.StatesPending != 0 {
		t.Errorf("stats are %+v", s)
	}
}

// With another of its limits mosquitto takes what is too large, acknowledges it,
// and throws it away: that can't be seen here, and stops nothing.
func TestMessagesThatTheBrokerThrowsAway(t *testing.T) {
	t.Parallel()
	m := newMosquitto(t, "allow_anonymous true\nmessage_size_limit 4000").start()
	seen := subscribe(t, m.url("mqtt"), "sightd/#")
	c := newClient(t, Options{URL: m.url("mqtt")}, quickSuspect())
	run(t, c)
	for _, e := range []Event{large("cam1", 1, 5000), event("cam0", 1)} {
		if err := c.Publish(e); err != nil {
			t.Fatal(err)
		}
	}
	drain(t, c)
	eventually(t, "the event", func() bool { return len(seen.on("sightd/dev1/cam0/events")) == 1 })
	if s := c.Stats(); s.Acked != 2 || s.Reconnects != 0 || len(seen.on("sightd/dev1/cam1/events")) != 0 {
		t.Errorf("stats are %+v, seen are %d", s, len(seen.on("sightd/dev1/cam1/events")))
	}
}

// Nothing is given up because of an outage, however often and at whatever moment
// the connection ends.
func TestNothingIsGivenUpForAnOutage(t *testing.T) {
	t.Parallel()
	for name, handle := range map[string]func(c net.Conn, n int){
		// Ends the session before anything is acknowledged.
		"at once": func(c net.Conn, n int) {
			connack(c, 0)
			_, _ = packets.ReadPacket(c)
		},
		// Acknowledges states, and loses the connection without a word.
		"events vanish": func(c net.Conn, n int) {
			connack(c, 0)
			receive(c, func(p *packets.PublishPacket) bool { return p.Retain })
		},
		// Ends the session between sending and PUBACK, of another event each time.
		"each time at another event": func(c net.Conn, n int) {
			connack(c, 0)
			events := 0
			receive(c, func(p *packets.PublishPacket) bool {
				if !p.Retain {
					events++
				}
				if events == 2 {
					_ = c.Close()
				}
				return true
			})
		},
		// Now and then the same one is hit, as chance has it.
		"twice at one event": func(c net.Conn, n int) {
			connack(c, 0)
			events := 0
			receive(c, func(p *packets.PublishPacket) bool {
				if !p.Retain {
					events++
				}
				if events == 1 && n%2 == 0 || events == 2 {
					_ = c.Close()
				}
				return true
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			n, well := 0, false
			s := script(t, func(c net.Conn) {
				mu.Lock()
				n++
				sick, k := !well, n
				mu.Unlock()
				if sick {
					handle(c, k)
					return
				}
				connack(c, 0)
				receive(c, func(*packets.PublishPacket) bool { return true })
			})
			tm := quickSuspect()
			tm.suspect, tm.ack = 0, 50*time.Millisecond
			c := newClient(t, Options{URL: s.url()}, tm)
			for i := range 200 {
				if err := c.Publish(event("cam0", i+1)); err != nil {
					t.Fatal(err)
				}
			}
			run(t, c)
			eventually(t, "thirty sessions", func() bool { return s.connections() >= 30 })
			mu.Lock()
			well = true
			mu.Unlock()
			drain(t, c)
			if st := c.Stats(); st.Acked != 200 || st.Dropped[DropRefused] != 0 {
				t.Errorf("stats are %+v, want all acked", st)
			}
		})
	}
}

// A broker that closes the connection at one event alone, without acknowledging
// those before it that it has taken, loses no other.
func TestRefusedAmongUnacknowledged(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var got []string
	s := script(t, func(c net.Conn) {
		connack(c, 0)
		receive(c, func(p *packets.PublishPacket) bool {
			if strings.Contains(string(p.Payload), `"seq":40,`) {
				_ = c.(*net.TCPConn).SetLinger(0) // what was sent is thrown away
				_ = c.Close()
				return false
			}
			if !p.Retain {
				mu.Lock()
				got = append(got, string(p.Payload))
				mu.Unlock()
			}
			return true
		})
	})
	c := newClient(t, Options{URL: s.url()}, quickSuspect())
	for i := range 60 {
		if err := c.Publish(event("cam0", i+1)); err != nil {
			t.Fatal(err)
		}
	}
	run(t, c)
	drain(t, c)
	if st := c.Stats(); st.Acked != 59 || st.Dropped[DropRefused] != 1 {
		t.Errorf("stats are %+v, want one given up", st)
	}
	mu.Lock()
	defer mu.Unlock()
	seqs := sequence(t, got)
	if len(seqs) != 59 || slices.Contains(seqs, 40) || !slices.IsSorted(seqs) {
		t.Errorf("events arrived as %v", seqs)
	}
}

func TestSuspicion(t *testing.T) {
	t.Parallel()
	now := time.Now()
	one := []flight{{event: 7}}
	closed := fmt.Errorf("read: %w", io.EOF)
	var x suspicion
	end := func(err error, flights []flight, proven bool) (maybe, refused bool) {
		now = now.Add(10 * time.Second)
		return x.ended(err, flights, proven, now, 25*time.Second)
	}
	for range suspectAfter {
		if x.room() != window {
			t.Error("it is careful too early")
		}
		end(closed, one, true)
	}
	if x.room() != 1 {
		t.Error("it isn't careful")
	}
	for _, tc := range []struct {
		err     error
		flights []flight
		proven  bool
	}{
		{errNoAck, one, true},
		{errNoPing, one, true},
		{closed, nil, true},
		{closed, one, false},
		{closed, append(one, flight{event: 8}), true},
		{errors.New("odd"), one, true},
	} {
		if maybe, _ := end(tc.err, tc.flights, tc.proven); maybe || x.alone != 0 {
			t.Errorf("%+v counts", tc)
		}
	}
	want := func(maybe, refused bool) {
		t.Helper()
		if m, r := end(syscall.ECONNRESET, one, true); m != maybe || r != refused {
			t.Errorf("maybe %v, refused %v", m, r)
		}
	}
	want(true, false)
	want(true, false)
	x.took(&flight{event: 7}) // it was taken after all
	want(true, false)
	end(closed, []flight{{event: 9}}, true)
	want(true, false)
	want(true, false)
	want(true, false) // the third time, after 20 s
	want(true, true)
	for range window {
		if x.room() != 1 {
			t.Error("it isn't careful any more")
		}
		x.took(&flight{event: 10})
	}
	if x.room() != window {
		t.Error("it is careful for ever")
	}
}

// Sessions are short, and in each of them a part of what waits is acknowledged: that is a
// link that flaps, and no message is to blame.
func TestALinkThatFlapsIsNotCarefulForEver(t *testing.T) {
	t.Parallel()
	now := time.Now()
	closed := fmt.Errorf("read: %w", io.EOF)
	var x suspicion
	seq := uint64(0)
	session := func(acked int) {
		t.Helper()
		for range acked {
			seq++
			x.took(&flight{event: seq})
		}
		now = now.Add(10 * time.Second)
		if _, refused := x.ended(closed, []flight{{event: seq + 1}}, true, now, 25*time.Second); refused {
			t.Errorf("event %d is given up", seq+1)
		}
	}
	for range 20 {
		session(5000)
		if x.room() != window {
			t.Fatal("it is careful though each session brings more than a window")
		}
	}
	for range suspectAfter {
		session(0)
	}
	if x.room() != 1 {
		t.Fatal("it isn't careful though three sessions brought nothing")
	}
	for range window/50 + 1 { // one at a time, as many as 200 ms to and fro allow
		session(50)
	}
	if x.room() != window {
		t.Error("it is careful still, though a window of events was acknowledged since")
	}
}

// A broker whose disk is full takes states, and closes at each event.
func TestABrokerThatTakesNoEventAtAllLosesFewOfThem(t *testing.T) {
	t.Parallel()
	now := time.Now()
	closed := fmt.Errorf("read: %w", io.EOF)
	var x suspicion
	given := uint64(0)
	outage := func(d time.Duration) (lost int) {
		for end := now.Add(d); now.Before(end); {
			now = now.Add(10 * time.Second)
			x.took(&flight{state: stateFlight{state: &state{topic: TopicStatus}}})
			if _, refused := x.ended(closed, []flight{{event: given + 1}}, true, now, 30*time.Second); refused {
				given++
				lost++
			}
		}
		return lost
	}
	if lost := outage(time.Minute + 30*time.Second); lost != 1 {
		t.Errorf("%d events are given up within a minute, want one, as if it were to blame", lost)
	}
	if lost := outage(24 * time.Hour); lost < 24 || lost > 32 {
		t.Errorf("%d events are given up in a day, want few more than one an hour", lost)
	}
	given++
	x.took(&flight{event: given})
	if lost := outage(time.Minute + 30*time.Second); lost != 1 {
		t.Errorf("%d events are given up after it took one, want one", lost)
	}
}

// What the limits dropped while it was on its way isn't given up once more.
func TestOnlyTheOldestEventIsGivenUp(t *testing.T) {
	t.Parallel()
	var log testenv.Buffer
	c := newClient(t, Options{URL: "mqtt://localhost", Log: slog.New(slog.NewTextHandler(&log, nil))}, quickSuspect())
	for i := range 3 {
		if err := c.Publish(event("cam0", i+1)); err != nil {
			t.Fatal(err)
		}
	}
	waiting := c.outbox.After(0, 3)
	for i, want := range []bool{false, true, true, false} { // the second, the first, the second, once more
		if got := c.outbox.GiveUp(waiting[[]int{1, 0, 1, 1}[i]].Seq, DropRefused); got != want {
			t.Errorf("step %d: given up: %v", i+1, got)
		}
	}
	closed := fmt.Errorf("read: %w", io.EOF)
	for range suspectAfter + 20 {
		s := &session{c: c, proven: true, flights: []flight{{event: waiting[0].Seq, topic: "gone"}}}
		s.judge(closed)
		time.Sleep(time.Millisecond) // of the time over which it has to be refused, which is 10 ms
	}
	if st := c.Stats(); st.Dropped[DropRefused] != 2 || c.suspicion.vain != 0 || strings.Contains(log.String(), "given up") {
		t.Errorf("%+v, vain %d\n%s", st, c.suspicion.vain, log.String())
	}
}
