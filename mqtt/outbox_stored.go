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
	bytes   int64     // of the batches
	oldest  time.Time // when the oldest batch was appended; zero: none
	written int64     // bytes given to the file since it was opened
	at      time.Time // of the last write
}

// holds tells whether there is something that has left the queue.
func (s *stored) holds(front uint64) bool { return s.batches > 0 && front > s.front }

// aged tells whether its oldest batch is too old.
func (s *stored) aged(now time.Time, most time.Duration) bool {
	return s.batches > 0 && now.Sub(s.oldest) > most
}

const stateVersion = 1

func (s *stored) encode() []byte {
	b := []byte{stateVersion}
	b = binary.BigEndian.AppendUint64(b, s.front)
	b = binary.BigEndian.AppendUint64(b, uint64(s.batches))
	return binary.BigEndian.AppendUint64(b, uint64(s.bytes))
}

func (s *stored) decode(b []byte) bool {
	if len(b) != 25 || b[0] != stateVersion {
		return false
	}
	s.front = binary.BigEndian.Uint64(b[1:])
	s.batches = int(binary.BigEndian.Uint64(b[9:]))
	s.bytes = int64(binary.BigEndian.Uint64(b[17:]))
	return s.batches >= 0 && s.bytes >= 0
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
