package mqtt

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"
)

// maxStates bounds the topics that hold a state: many cameras times models.
const maxStates = 4096

// states holds what each retained topic should say, and which the broker still
// has to be told, in the order in which they were set. A topic waits once: what
// is set meanwhile replaces what was set before.
type states struct {
	mu     sync.Mutex
	topics map[string]*state
	queue  []*state  // to be sent
	sets   uint64    // changes so far
	retry  time.Time // when the first refused topic is tried again; zero: none is refused
	now    func() time.Time
}

type state struct {
	topic    string
	payload  []byte // empty: cleared
	version  uint64 // of payload: the change that made it
	acked    uint64 // the version that the broker has; 0: unknown
	queued   bool
	refused  time.Time // until then the topic isn't tried: the broker refuses it; zero: it is tried
	refusals int       // in a row
}

// A topic that the broker refuses isn't tried for refusedFor, then for twice as long each
// time, up to refusedMost: each try costs several sessions.
const (
	refusedFor  = time.Hour
	refusedMost = 24 * time.Hour
)

func newStates() *states { return &states{topics: map[string]*state{}, now: time.Now} }

// set makes payload, which is copied, what topic says. It tells whether there
// is something new to send.
func (s *states) set(topic string, payload []byte) (bool, error) {
	if err := checkTopic(topic); err != nil {
		return false, err
	}
	if len(payload) > maxPayload {
		return false, fmt.Errorf("state of %d bytes for %s: at most %d", len(payload), topic, maxPayload)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.topics[topic]
	switch {
	case st == nil && len(s.topics) >= maxStates:
		return false, fmt.Errorf("state for %s: %d topics have one already, the most that are kept", topic, maxStates)
	case st == nil:
		st = &state{topic: topic}
		s.topics[topic] = st
	case bytes.Equal(st.payload, payload):
		return false, nil
	}
	st.payload = bytes.Clone(payload)
	s.sets++
	st.version = s.sets
	if s.now().Before(st.refused) {
		st.acked = st.version // nobody waits for it
		return false, fmt.Errorf("state for %s: the broker refuses the topic; it is tried again after %s", topic, st.refused.UTC().Format(time.RFC3339))
	}
	s.enqueue(st)
	return true, nil
}

// A stateFlight is a state on its way.
type stateFlight struct {
	state   *state
	payload []byte
	version uint64
}

// take gives the next state to send.
func (s *states) take() (stateFlight, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readmit()
	if len(s.queue) == 0 {
		return stateFlight{}, false
	}
	st := s.queue[0]
	s.queue = slices.Delete(s.queue, 0, 1)
	st.queued = false
	return stateFlight{st, st.payload, st.version}, true
}

// settle is called when the broker has f.
func (s *states) settle(f stateFlight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := f.state
	st.acked, st.refusals = f.version, 0
	if st.version == f.version && len(st.payload) == 0 {
		delete(s.topics, st.topic)
	}
}

// refuse gives f up, and its topic for a while.
func (s *states) refuse(f stateFlight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := f.state
	st.refused = s.now().Add(min(refusedFor<<min(st.refusals, 8), refusedMost))
	st.refusals++
	st.acked = st.version // nobody waits for it
	if s.retry.IsZero() || st.refused.Before(s.retry) {
		s.retry = st.refused
	}
	if st.queued {
		st.queued = false
		s.queue = slices.DeleteFunc(s.queue, func(q *state) bool { return q == st })
	}
}

// readmit has those tried again that were refused long enough ago.
func (s *states) readmit() {
	now := s.now()
	if s.retry.IsZero() || now.Before(s.retry) {
		return
	}
	s.retry = time.Time{}
	for _, st := range s.topics {
		switch {
		case st.refused.IsZero():
		case !now.Before(st.refused):
			st.refused, st.acked = time.Time{}, 0
			s.enqueue(st)
		case s.retry.IsZero() || st.refused.Before(s.retry):
			s.retry = st.refused
		}
	}
}

// again has a topic's state sent once more.
func (s *states) again(topic string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.topics[topic]; st != nil {
		st.acked = 0
		s.enqueue(st)
	}
}

// restart has everything sent in a new session: the status first, the rest in
// the order in which they were set.
func (s *states) restart() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = s.queue[:0]
	now := s.now()
	for _, st := range s.topics {
		if now.Before(st.refused) {
			continue
		}
		st.acked, st.queued = 0, true
		s.queue = append(s.queue, st)
	}
	slices.SortFunc(s.queue, func(a, b *state) int {
		if (a.topic == TopicStatus) != (b.topic == TopicStatus) {
			if a.topic == TopicStatus {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.version, b.version)
	})
}

// count gives the topics and how many of them the broker still has to be told.
func (s *states) count() (topics, pending int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.topics {
		if st.acked != st.version {
			pending++
		}
	}
	return len(s.topics), pending
}

func (s *states) enqueue(st *state) {
	if !st.queued {
		st.queued = true
		s.queue = append(s.queue, st)
	}
}
