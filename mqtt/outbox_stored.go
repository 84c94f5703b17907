package mqtt

import (
	"encoding/binary"
	"time"
)

// stored is what a store holds.
type stored struct {
	front   uint64 // of the queue, at the last write
	last    uint64 // the newest message; front where there is none
	batches int
	bytes   int64     // of the file's pages that are in use
	oldest  time.Time // when the oldest batch was appended; zero: none
	written int64     // bytes given to the file since it was opened
	at      time.Time // of the last write
}

// holds tells whether there is something that has left the queue.
func (s *stored) holds(front uint64) bool { return s.batches > 0 && front > s.front }

// aged tells whether its oldest batch is too old.
func (s *stored) aged(now time.Time, l Limits) bool {
	return s.batches > 0 && l.aged(now, s.oldest)
}

const stateVersion = 1

func (s *stored) encode() []byte {
	return binary.BigEndian.AppendUint64([]byte{stateVersion}, s.front)
}

func (s *stored) decode(b []byte) bool {
	if len(b) != 9 || b[0] != stateVersion {
		return false
	}
	s.front = binary.BigEndian.Uint64(b[1:])
	return true
}

// clockSet is before any time that a set clock shows. A batch from before it was
// appended while the device didn't know the time, and counts as old as the store
// is open.
var clockSet = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

func (s *store) addedOf(v []byte) time.Time {
	t := batchAdded(v)
	if t.Before(clockSet) {
		return s.since
	}
	return t
}
