package mqtt

import (
	"fmt"
	"log/slog"
	"maps"
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
}

// An Outbox keeps events until the broker has them. It is a queue that only
// ever loses its front: by acknowledgements, and by its bounds, which count
// what they drop, even where it is on its way at that moment and arrives all
// the same. Its older part may lie in a file, the newer one in memory:
//
//	front ── in the store ── split ── in memory ── last
//
// A goroutine of its own writes, so that nobody who appends waits for a disk.
// While the disk refuses, the outbox is one in memory, says so, and tries
// again. All methods may be called at the same time.
type Outbox struct {
	limits     Limits
	durability Durability
	log        *slog.Logger
	now        func() time.Time
	store      *store // nil: in memory alone

	kick  chan struct{} // holds one: the writer has to look
	stop  chan struct{} // closed by Close
	ended chan struct{} // closed when the writer has ended

	mu      sync.Mutex
	front   uint64    // all up to it are gone
	split   uint64    // at least front
	last    uint64    // the newest ever appended
	queue   fifo      // what is behind split
	settled uint64    // front as the store has it: what a crash falls back to
	leftAt  time.Time // when the first of those left that the store still holds
	stored  stored    // what the store holds
	closed  bool
	refused bool          // the last message that was appended
	broken  bool          // the file was found damaged, and what it holds is still counted
	damaged bool          // it has still to be set aside
	failing error         // why the last write failed; nil: it didn't
	retry   time.Time     // no write before it
	pause   time.Duration // before the next
	longest time.Duration // that it may be
	ready   func()        // told when there is more to send
	stats   OutboxStats
}

// NewOutbox makes an empty outbox in memory.
func NewOutbox(l Limits) *Outbox {
	return newOutbox(l.or(100_000), Memory, nil)
}

func newOutbox(l Limits, d Durability, log *slog.Logger) *Outbox {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Outbox{
		limits: l, durability: d, log: log, now: time.Now, ready: func() {}, longest: retryMost,
		kick: make(chan struct{}, 1), stop: make(chan struct{}), ended: make(chan struct{}),
		stats: OutboxStats{Dropped: map[string]uint64{
			DropAge: 0, DropBytes: 0, DropCount: 0, DropSize: 0, DropDisk: 0, DropDamaged: 0, DropRefused: 0,
		}},
	}
}

// Append puts m behind all others and gives it its Seq. It waits neither for
// the network nor for the disk. An error says that m wasn't taken, which the
// outbox has counted by cause.
func (o *Outbox) Append(m Message) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stats.Appended++
	size := m.size()
	if size > o.limits.MaxBytes {
		o.stats.Dropped[DropSize]++
		return fmt.Errorf("message of %d bytes: the whole outbox holds %d", size, o.limits.MaxBytes)
	}
	now := o.now()
	if o.store == nil {
		o.expire(now)
		for o.queue.len() > 0 && o.queue.bytes+size > o.limits.MaxBytes {
			o.drop(o.front+1, DropBytes)
		}
	} else if o.closed || o.queue.bytes+size > memoryBytes || o.queue.len() >= memoryCount {
		o.stats.Dropped[DropDisk]++
		o.refused = true
		if o.closed {
			return fmt.Errorf("the outbox is closed")
		}
		return fmt.Errorf("%d messages wait for the disk already, the most that are kept in memory", o.queue.len())
	}
	for o.last-o.front >= uint64(o.limits.MaxCount) {
		o.drop(o.front+1, DropCount)
	}
	o.refused = false
	o.last++
	m.Seq = o.last
	o.queue.push(queued{Message: m, added: now, at: time.Now()})
	if n := o.queue.len(); n == 1 || n == group {
		o.look()
	}
	return nil
}

// After gives up to n of the messages behind seq that may be sent, oldest first;
// 0 is before all. They stay in the outbox.
func (o *Outbox) After(seq uint64, n int) []Message {
	o.mu.Lock()
	o.expire(o.now())
	if o.renumbered(seq) {
		seq = 0
	}
	seq = max(seq, o.front)
	if seq >= o.split {
		defer o.mu.Unlock()
		if o.current() == Always {
			return nil // it isn't on the disk yet
		}
		return o.queue.after(seq, n)
	}
	n = min(n, int(o.split-seq))
	if sent := seq - min(seq, o.settled); o.failing == nil {
		n = min(n, window-int(min(sent, window)))
	}
	broken := o.broken
	o.mu.Unlock()
	if n <= 0 || broken {
		return nil
	}
	return o.read(seq, n)
}

// read reads from the store. What is damaged there is given up, counted and
// said.
func (o *Outbox) read(seq uint64, n int) []Message {
	messages, bad, err := o.store.read(seq, n)
	if err == nil {
		return messages
	}
	o.mu.Lock()
	lost := uint64(0)
	if bad > 0 {
		lost = bad - min(bad, o.front)
		o.drop(bad, DropDamaged)
	} else {
		o.broken = true
	}
	o.mu.Unlock()
	o.look()
	if bad > 0 {
		o.log.Error("events couldn't be read from the outbox again and are given up", "file", o.store.path, "events", lost, "err", err)
	}
	return nil
}

// Ack removes all messages up to seq: the broker has them.
func (o *Outbox) Ack(seq uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	of := seq
	seq = min(seq, o.last)
	if seq <= o.front || o.renumbered(of) {
		return
	}
	o.stats.Acked += seq - o.front
	o.leave(seq)
	if o.stored.holds(o.front) && o.front-o.settled >= window/2 {
		o.look()
	}
}

// GiveUp drops message seq for a cause if it is the oldest, and tells whether it did: the
// limits may have dropped it before.
func (o *Outbox) GiveUp(seq uint64, cause string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if seq != o.front+1 || seq > o.last {
		return false
	}
	o.drop(seq, cause)
	o.look()
	return true
}

// OnReady has ready called, from any goroutine, whenever there may be more to
// send. It must return soon.
func (o *Outbox) OnReady(ready func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ready = ready
}

// Len is how many messages wait.
func (o *Outbox) Len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return int(o.last - o.front)
}

// Stats gives the present figures.
func (o *Outbox) Stats() OutboxStats {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.expire(o.now())
	s := o.stats
	s.Durability = o.current()
	s.Refuses = o.refused && (o.queue.bytes > memoryBytes/2 || o.queue.len() > memoryCount/2)
	if o.failing != nil {
		s.Error = o.failing.Error()
	}
	s.Queued = int(o.last - o.front)
	if s.Queued > 0 {
		s.Bytes = o.queue.bytes
		if o.split > o.front {
			s.Bytes += o.stored.bytes
			s.Oldest = o.stored.oldest
		} else {
			s.Oldest = o.queue.items()[0].added
		}
	}
	s.Dropped = maps.Clone(o.stats.Dropped)
	return s
}

// current is the durability that holds at the moment.
func (o *Outbox) current() Durability {
	if o.failing != nil {
		return Memory
	}
	return o.durability
}

// unopened is above all Seq of a file. While a file can't be opened, messages have
// Seq above it, and new ones once what the file holds stands in front of them.
const unopened = 1 << 62

// renumbered tells whether a Seq is of the time before the file was opened.
func (o *Outbox) renumbered(seq uint64) bool { return seq > unopened && o.last < unopened }

// expire drops what is too old; what is in the store, its writer drops.
func (o *Outbox) expire(now time.Time) {
	if o.store != nil {
		if o.stored.aged(now, o.limits) {
			o.look()
		}
		return
	}
	for o.queue.len() > 0 && now.Sub(o.queue.items()[0].added) > o.limits.MaxAge {
		o.drop(o.front+1, DropAge)
	}
}

// drop gives up all up to seq.
func (o *Outbox) drop(seq uint64, cause string) {
	if seq > o.front {
		o.stats.Dropped[cause] += seq - o.front
		o.leave(seq)
	}
}

// leave moves the front.
func (o *Outbox) leave(seq uint64) {
	if o.front == o.settled {
		o.leftAt = time.Now()
	}
	o.front = max(o.front, seq)
	o.split = max(o.split, o.front)
	o.queue.pop(o.front)
}

// look has the writer see what is due.
func (o *Outbox) look() {
	select {
	case o.kick <- struct{}{}:
	default:
	}
}

func (m *Message) size() int64 {
	return int64(len(m.ID)+len(m.Topic)+len(m.Payload)) + messageOverhead
}
