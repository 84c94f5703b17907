package mqtt

import "time"

// Durability is what becomes of events that wait when the process or the
// machine ends without a word.
type Durability string

const (
	// Always: an event is on the disk before it is sent, so none is lost.
	Always Durability = "always"
	// Outage: what the broker hasn't acknowledged within [prompt] is written.
	// Events of the last second may be lost.
	Outage Durability = "outage"
	// Memory: nothing is ever written.
	Memory Durability = "memory"
)

// OutboxStats says what is in an outbox and what became of the rest:
// Appended = Queued + Acked + the sum of Dropped.
type OutboxStats struct {
	Durability Durability // what is true now: Memory while the disk refuses
	Error      string     // why the disk refuses; empty: it doesn't
	Refuses    bool       // the last event wasn't taken, since too many wait for the disk
	Queued     int
	Bytes      int64     // in memory and, compressed, in the file
	Oldest     time.Time // when the oldest was appended; zero if none is queued
	Appended   uint64    // with what a former process left
	Acked      uint64
	Dropped    map[string]uint64 // by cause; the caller's own copy
	Written    int64             // bytes given to the file, with its pages' overhead
	Syncs      uint64            // of the file
}

// Why events are dropped.
const (
	DropAge     = "age"     // waited longer than the outbox keeps events
	DropBytes   = "bytes"   // the outbox was full by size
	DropCount   = "count"   // the outbox was full by number
	DropSize    = "size"    // larger than one message may be
	DropInvalid = "invalid" // can't be written as an event
	DropDisk    = "disk"    // the disk took no more and memory was full
	DropDamaged = "damaged" // couldn't be read from the file again
	DropRefused = "refused" // the broker closed the connection at it, each time
)

// Limits bound an outbox. A zero takes the default.
type Limits struct {
	MaxBytes int64         // 16 MiB; in memory each message counts its bytes and messageOverhead
	MaxAge   time.Duration // 72 h
	MaxCount int           // 100,000 in memory, 10 million with a file
	// Clock says why the time isn't known; nil: it is. Until it is, what lies in the
	// file becomes old only by the time that this process has run: a clock that is set
	// jumps by years.
	Clock func() error
}

func (l *Limits) known() bool { return l.Clock == nil || l.Clock() == nil }

// aged tells whether what was appended then is too old.
func (l *Limits) aged(now, added time.Time) bool { return now.Sub(added) > l.MaxAge && l.known() }

// messageOverhead is about what a queued message costs beside its contents.
const messageOverhead = 128

const (
	// window is how many messages may be on their way at once, and by how many
	// what was sent may be ahead of what the file knows to have arrived: so many
	// at most come twice after a crash.
	window = 100
	// memoryBytes and memoryCount bound what waits for the disk.
	memoryBytes = 8 << 20
	memoryCount = 8192
)

func (l Limits) or(count int) Limits {
	if l.MaxBytes <= 0 {
		l.MaxBytes = 16 << 20
	}
	if l.MaxAge <= 0 {
		l.MaxAge = 72 * time.Hour
	}
	if l.MaxCount <= 0 {
		l.MaxCount = count
	}
	return l
}
