package mqtt

import (
	"fmt"
	"sync"
	"time"
)

// A Message is an event on its way to the broker. Nobody changes Payload once
// it is in an outbox.
type Message struct {
	Seq     uint64 // given by the outbox, from 1, each one more than the last
	ID      string
	Topic   string
	Payload []byte
	Time    time.Time // of the event
}

// An Outbox keeps events until the broker has them. It is bounded; when a bound
// is reached the oldest go first and are counted, even one that is on its way
// at that moment and arrives all the same. All methods may be called at the same
// time.
type Outbox interface {
	// Append puts m behind all others and gives it its Seq. It waits neither
	// for the network nor for anything else that can take long. An error says
	// that m wasn't taken, which the outbox has counted by cause.
	Append(m Message) error
	// After gives up to n of the messages behind seq, oldest first; 0 is before
	// all. They stay in the outbox.
	After(seq uint64, n int) ([]Message, error)
	// Ack removes all messages up to seq: the broker has them.
	Ack(seq uint64) error
	// GiveUp removes the oldest message if it is seq, and counts it as dropped for
	// the cause. Where seq has gone already it does nothing.
	GiveUp(seq uint64, cause string) error
	Stats() OutboxStats
}

// OutboxStats says what is in an outbox and what became of the rest:
// Appended = Queued + Acked + the sum of Dropped.
type OutboxStats struct {
	Queued   int
	Bytes    int64
	Oldest   time.Time // when the oldest was appended; zero if none is queued
	Appended uint64
	Acked    uint64
	Dropped  map[string]uint64 // by cause; the caller's own copy
}

// Why events are dropped.
const (
	DropAge     = "age"     // waited longer than the outbox keeps events
	DropBytes   = "bytes"   // the outbox was full by size
	DropCount   = "count"   // the outbox was full by number
	DropSize    = "size"    // larger than one message may be
	DropInvalid = "invalid" // can't be written as an event
	DropError   = "error"   // the outbox couldn't store it
	DropRefused = "refused" // the broker closed the connection at it, each time
)

// Limits bound an outbox. A zero takes the default.
type Limits struct {
	MaxBytes int64         // 16 MiB; each message counts its bytes and messageOverhead
	MaxAge   time.Duration // 72 h
	MaxCount int           // 100,000
}

// messageOverhead is about what a queued message costs beside its contents.
const messageOverhead = 128

// A MemoryOutbox keeps events as long as the process lives.
type MemoryOutbox struct {
	limits Limits
	now    func() time.Time

	mu    sync.Mutex
	queue []queued // the messages are queue[head:], with consecutive Seq
	head  int
	last  uint64 // Seq of the newest ever appended
	stats OutboxStats
}

type queued struct {
	Message
	added time.Time
}

// NewMemoryOutbox makes an empty outbox.
func NewMemoryOutbox(l Limits) *MemoryOutbox {
	if l.MaxBytes <= 0 {
		l.MaxBytes = 16 << 20
	}
	if l.MaxAge <= 0 {
		l.MaxAge = 72 * time.Hour
	}
	if l.MaxCount <= 0 {
		l.MaxCount = 100_000
	}
	return &MemoryOutbox{
		limits: l,
		now:    time.Now,
		stats:  OutboxStats{Dropped: map[string]uint64{DropAge: 0, DropBytes: 0, DropCount: 0, DropSize: 0, DropRefused: 0}},
	}
}

func (o *MemoryOutbox) Append(m Message) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stats.Appended++
	size := m.size()
	if size > o.limits.MaxBytes {
		o.stats.Dropped[DropSize]++
		return fmt.Errorf("message of %d bytes: the whole outbox holds %d", size, o.limits.MaxBytes)
	}
	now := o.now()
	o.expire(now)
	for o.stats.Bytes+size > o.limits.MaxBytes {
		o.drop(DropBytes)
	}
	for len(o.queue)-o.head >= o.limits.MaxCount {
		o.drop(DropCount)
	}
	o.last++
	m.Seq = o.last
	o.stats.Bytes += size
	o.queue = append(o.queue, queued{m, now})
	return nil
}

func (o *MemoryOutbox) After(seq uint64, n int) ([]Message, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.expire(o.now())
	rest := o.queue[o.head:]
	if len(rest) > 0 && seq >= rest[0].Seq {
		rest = rest[min(seq-rest[0].Seq+1, uint64(len(rest))):]
	}
	rest = rest[:min(n, len(rest))]
	if len(rest) == 0 {
		return nil, nil
	}
	messages := make([]Message, len(rest))
	for i := range rest {
		messages[i] = rest[i].Message
	}
	return messages, nil
}

func (o *MemoryOutbox) Ack(seq uint64) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.head < len(o.queue) && o.queue[o.head].Seq <= seq {
		o.pop()
		o.stats.Acked++
	}
	return nil
}

func (o *MemoryOutbox) GiveUp(seq uint64, cause string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.head == len(o.queue) || o.queue[o.head].Seq > seq {
		return nil
	}
	if oldest := o.queue[o.head].Seq; oldest < seq {
		return fmt.Errorf("give up message %d: %d is older and waits still", seq, oldest)
	}
	o.drop(cause)
	return nil
}

func (o *MemoryOutbox) Stats() OutboxStats {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.expire(o.now())
	s := o.stats
	s.Queued = len(o.queue) - o.head
	if s.Queued > 0 {
		s.Oldest = o.queue[o.head].added
	}
	s.Dropped = make(map[string]uint64, len(o.stats.Dropped))
	for cause, n := range o.stats.Dropped {
		s.Dropped[cause] = n
	}
	return s
}

func (o *MemoryOutbox) expire(now time.Time) {
	for o.head < len(o.queue) && now.Sub(o.queue[o.head].added) > o.limits.MaxAge {
		o.drop(DropAge)
	}
}

func (o *MemoryOutbox) drop(cause string) {
	o.pop()
	o.stats.Dropped[cause]++
}

// pop takes the oldest away. The slice is moved to its front once half of it is
// empty, so that its memory follows the bounds.
func (o *MemoryOutbox) pop() {
	o.stats.Bytes -= o.queue[o.head].size()
	o.queue[o.head] = queued{}
	o.head++
	if o.head == len(o.queue) {
		o.queue, o.head = o.queue[:0], 0
	} else if o.head >= 64 && o.head*2 >= len(o.queue) {
		n := copy(o.queue, o.queue[o.head:])
		clear(o.queue[n:])
		o.queue, o.head = o.queue[:n], 0
	}
}

func (m *Message) size() int64 {
	return int64(len(m.ID)+len(m.Topic)+len(m.Payload)) + messageOverhead
}
