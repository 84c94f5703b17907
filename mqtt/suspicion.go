package mqtt

import (
	"fmt"
	"time"
)

// A broker has no way to refuse a message in MQTT 3.1.1: what is larger than its
// limit, or on a topic that its access list forbids, some brokers answer by
// closing the connection. Sent again and again, as a message that nobody
// acknowledged must be, it would hold up all that are behind it for ever. So:
//
//   - After suspectAfter sessions in a row that the broker ended with something
//     unacknowledged, messages are sent one at a time.
//   - A message is given up as refused when the broker ended refusedAfter such
//     sessions in a row with it alone on its way, over at least timing.suspect,
//     each after it had acknowledged something else in that session.
//
// An outage isn't taken for that: time-outs don't count, nor do attempts without
// a session, nor sessions in which nothing was acknowledged, and it would have to
// hit the same message each time in the moment between sending and PUBACK.
//
// A broker that takes states alone, as with a full disk or a quota that is used up, ends
// the session at each event, whatever it is. One event can't be told from it, several
// can: for each that was given up since the last one that was acknowledged, the next has
// to be refused for twice as long, up to an hour.
//
// Nor is a link that flaps taken for a refusal: once a window of events is acknowledged without a session
// that brought none, the ends before are forgotten.
const (
	suspectAfter = 3
	refusedAfter = 3
)

// suspicion is which message the broker may be ending its sessions for.
type suspicion struct {
	ends   int // sessions in a row that the broker ended with something unacknowledged
	trust  int // events that are still to be acknowledged until they are forgotten
	landed int // events that were acknowledged in this session
	who    suspect
	alone  int       // sessions in a row that it ended with who alone on its way
	since  time.Time // the first of them
	vain   int       // events given up since one was acknowledged
}

// A suspect is an event by its Seq, or the state of a topic.
type suspect struct {
	event uint64
	topic string // without PREFIX/DEVICE/
}

func (f *flight) suspect() suspect {
	if f.event == 0 && f.state.state != nil {
		return suspect{topic: f.state.state.topic}
	}
	return suspect{event: f.event}
}

// room is how many messages may be on their way at once.
func (x *suspicion) room() int {
	if x.ends >= suspectAfter {
		return 1
	}
	return window
}

// took is told of every message that is acknowledged.
func (x *suspicion) took(f *flight) {
	if f.suspect() == x.who {
		x.who, x.alone = suspect{}, 0
	}
	if f.event == 0 {
		return
	}
	x.landed++
	x.vain = 0
	if x.trust > 0 {
		if x.trust--; x.trust == 0 {
			x.ends = 0
		}
	}
}

// quiet is told when the broker has everything, and of sessions that held. Neither tells
// whether it takes events.
func (x *suspicion) quiet() { *x = suspicion{vain: x.vain} }

// ended is told of a session's end with what was on its way then, the oldest
// first, and whether the broker had acknowledged something in it. It tells
// whether that one message may be why, and whether it is now to be given up.
func (x *suspicion) ended(err error, flights []flight, proven bool, now time.Time, least time.Duration) (maybe, refused bool) {
	landed := x.landed
	x.landed = 0
	if !isClosed(err) || len(flights) == 0 {
		return false, false
	}
	if x.ends == 0 || landed == 0 {
		x.trust = window
	}
	x.ends++
	if x.ends <= suspectAfter || len(flights) > 1 || !proven { // the window was whole up to here
		return false, false
	}
	if who := flights[0].suspect(); who != x.who || x.alone == 0 {
		x.who, x.alone, x.since = who, 0, now
	}
	x.alone++
	event := x.who.event != 0
	if event {
		least = min(least<<min(x.vain, 16), max(least, time.Hour))
	}
	if x.alone < refusedAfter || now.Sub(x.since) < least {
		return true, false
	}
	if event {
		x.vain++
	}
	x.who, x.alone = suspect{}, 0
	return true, true
}

// judge looks at how the session ended, and gives up what the broker refuses.
// It tells in words of a message that may be why.
func (s *session) judge(err error) string {
	c := s.c
	maybe, refused := c.suspicion.ended(err, s.flights, s.proven, time.Now(), c.timing.suspect)
	if !maybe {
		return ""
	}
	f := s.flights[0]
	words := fmt.Sprintf("the broker closes the connection at a message of %d bytes to %s: is that more than its limit, or does its access list forbid the topic?", f.size, f.topic)
	if !refused {
		return words
	}
	if f.event != 0 {
		if !c.outbox.GiveUp(f.event, DropRefused) {
			c.suspicion.vain--
			return words // it is gone already, and counted by the cause of that
		}
	} else {
		c.states.refuse(f.state)
		c.mu.Lock()
		c.counted.StatesRefused++
		c.mu.Unlock()
	}
	c.log.Error("a message is given up, because the broker closed the connection at it each time", "topic", f.topic, "bytes", f.size, "event", f.id, "sessions", refusedAfter)
	c.warn("refused", fmt.Sprintf("messages were given up because %s closed the connection at them, the last of %d bytes to %s: raise its limit for messages, or let this client publish there by its access list", s.t, f.size, f.topic))
	c.delivered()
	return words
}
