package mqtt

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
)

// next takes a state and gives it as topic=payload.
func (s *states) next(t *testing.T) (stateFlight, string) {
	t.Helper()
	f, ok := s.take()
	if !ok {
		return f, ""
	}
	return f, f.state.topic + "=" + string(f.payload)
}

func TestStatesKeepTheLatestOnly(t *testing.T) {
	t.Parallel()
	s := newStates()
	set := func(topic, payload string, want bool) {
		t.Helper()
		if changed, err := s.set(topic, []byte(payload)); err != nil || changed != want {
			t.Errorf("set %s=%s is news: %v (%v), want %v", topic, payload, changed, err, want)
		}
	}
	expect := func(want string) stateFlight {
		t.Helper()
		f, got := s.next(t)
		if got != want {
			t.Errorf("next is %q, want %q", got, want)
		}
		return f
	}
	set("a", "1", true)
	set("b", "1", true)
	set("a", "2", true)
	set("a", "2", false)
	a := expect("a=2")
	b := expect("b=1")
	expect("")
	set("b", "2", true)
	set("a", "3", true) // while 2 is on its way
	set("a", "4", true)
	b2 := expect("b=2")
	a4 := expect("a=4")
	s.settle(a)
	s.settle(b)
	if topics, pending := s.count(); topics != 2 || pending != 2 {
		t.Errorf("%d topics, %d pending, want 2 and both", topics, pending)
	}
	s.settle(b2)
	s.settle(a4)
	expect("")
	if topics, pending := s.count(); topics != 2 || pending != 0 {
		t.Errorf("%d topics, %d pending, want 2 and none", topics, pending)
	}

	set("b", "", true) // cleared: told once, then forgotten
	s.settle(expect("b="))
	if topics, pending := s.count(); topics != 1 || pending != 0 {
		t.Errorf("%d topics, %d pending, want 1 and none", topics, pending)
	}
	set("c", "", true) // an earlier process may have left something there
	expect("c=")

	// The connection is lost while c is on its way.
	set(TopicStatus, "online", true)
	s.restart()
	expect("status=online")
	expect("a=4")
	expect("c=")
	expect("")
}

func TestStatesThatAreRefused(t *testing.T) {
	t.Parallel()
	c := newClient(t, Options{URL: "mqtt://localhost"}, quick())
	c.SetState("a/+", []byte("x"))
	c.SetState("", []byte("x"))
	c.SetState("a//b", []byte("x"))
	c.SetState("large", make([]byte, maxPayload+1))
	for i := range maxStates + 5 {
		c.SetState(fmt.Sprintf("cam%d/status", i), []byte(Online))
	}
	if s := c.Stats(); s.StatesRefused != 9 || s.States != maxStates {
		t.Errorf("%d refused, %d states, want 9 and %d", s.StatesRefused, s.States, maxStates)
	}
}

// Also where its payload stays the same, and the session lasts.
func TestARefusedTopicIsTriedAgainLaterAndLater(t *testing.T) {
	t.Parallel()
	s := newStates()
	now := time.Now()
	s.now = func() time.Time { return now }
	set := func(topic, payload string) error { _, err := s.set(topic, []byte(payload)); return err }
	for _, topic := range []string{"a", "b"} {
		if err := set(topic, "1"); err != nil {
			t.Fatal(err)
		}
	}
	f, _ := s.take()
	for _, hours := range []time.Duration{1, 2, 4, 8, 16, 24, 24} {
		s.refuse(f)
		if _, pending := s.count(); hours > 1 && pending > 0 {
			t.Errorf("%d topics are pending, want none: nobody waits for what is refused", pending)
		}
		if hours == 1 {
			b, got := s.next(t)
			if got != "b=1" {
				t.Fatalf("next is %q, want what isn't refused", got)
			}
			s.settle(b)
		}
		now = now.Add(hours*time.Hour - time.Second)
		s.restart() // of b alone
		if b, got := s.next(t); got != "b=1" {
			t.Fatalf("next is %q, want b alone", got)
		} else {
			s.settle(b)
		}
		if _, got := s.next(t); got != "" {
			t.Fatalf("%s is sent again before %d h are over", got, hours)
		}
		if err := set("a", fmt.Sprint(hours)); err == nil || !strings.Contains(err.Error(), "tried again after") {
			t.Errorf("error %v", err)
		}
		if err := set("a", "1"); err == nil {
			t.Error("no error")
		}
		now = now.Add(time.Second)
		var got string
		if f, got = s.next(t); got != "a=1" {
			t.Fatalf("next is %q after %d h, want a=1", got, hours)
		}
	}
	s.settle(f)
	s.refuse(f)
	now = now.Add(time.Hour)
	if _, got := s.next(t); got != "a=1" {
		t.Errorf("next is %q an hour after it was taken and refused", got)
	}
}

// 100,000 states without a connection cost the memory of one, and only the last
// is sent.
func TestStatesWithoutConnectionStaySmall(t *testing.T) { // alone: it looks at the heap
	c := newClient(t, Options{URL: "mqtt://localhost"}, quick())
	payload := []byte(strings.Repeat("x", 500))
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for i := range 100_000 {
		copy(payload, fmt.Sprintf("%06d", i))
		c.SetState("cam0/classification/m", payload)
	}
	if after := heap(); after > before+1<<20 { // 50 MB would have been kept
		t.Errorf("heap grew from %d to %d bytes", before, after)
	}
	if len(c.states.queue) != 1 {
		t.Errorf("%d states queued, want 1", len(c.states.queue))
	}
	if _, got := c.states.next(t); !strings.HasPrefix(got, "cam0/classification/m=099999") {
		t.Errorf("the state sent is %.40q, want the last", got)
	}
}
