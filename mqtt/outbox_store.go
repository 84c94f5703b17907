package mqtt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
)

// A store is the part of an outbox that lies in a file: a bbolt database with
// two buckets. `events` holds what one write took, compressed, under the Seq of
// its last message; `state` holds, under one key, how far the queue's front has
// come. bbolt was chosen for its two properties: a transaction is there whole or
// not at all after a power cut, and it needs no log to be replayed at the start.
//
// Its list of free pages isn't written (NoFreelistSync): after a long outage it
// would be larger than all that a write writes. The price is that bbolt looks through
// the file where a write fails, and 1.4 then ends the process where a page is damaged
// as well, before [checkFile] has had a chance.
//
// The writer alone calls all but read.
type store struct {
	path   string
	opened sync.RWMutex // db is being read by others than the writer, or changed by it
	db     *bbolt.DB
	since  time.Time // when it was opened
	stored stored
	// panicked: bbolt didn't come back regularly and may hold its own locks for ever, so
	// that db can only be forgotten, with its file and memory map.
	panicked atomic.Bool

	decoding sync.Mutex
	decoded  []Message // the batch that was read last: a session takes one in many parts
}

var (
	errDamaged = errors.New("not an outbox, or damaged")
	errInUse   = errors.New("another process has the outbox open: is sightd running twice with one state_dir?")
)

var (
	bucketEvents = []byte("events")
	bucketState  = []byte("state")
	keyState     = []byte("front")
)

func (s *store) isOpen() bool { return s.db != nil }

// aside is where a damaged file goes. One is kept, for whoever wants to look.
func (s *store) aside() string { return s.path + ".corrupt" }

// A loss says that all messages up to upTo are given up.
type loss struct {
	upTo  uint64
	cause string
}

// commit removes what is in front, adds batch, and keeps the bounds by removing
// the oldest. After an error it isn't known what the file holds (the last sync may
// have failed behind all writes), so it is closed and has to be opened again, which
// looks it through.
func (s *store) commit(front uint64, batch []queued, l Limits, now time.Time) (stored, []loss, error) {
	after := s.stored
	var drops []loss
	var pages int64
	page := s.db.Info().PageSize
	err := s.safely(func() error {
		return s.db.Update(func(tx *bbolt.Tx) error {
			events := tx.Bucket(bucketEvents)
			events.FillPercent = 1 // keys only grow
			for len(batch) > 0 {
				n := portion(batch)
				value := encodeBatch(batch[:n], l.known())
				if err := events.Put(toKey(batch[n-1].Seq), value); err != nil {
					return err
				}
				after.batches++
				after.bytes += inPages(value, page)
				after.last = batch[n-1].Seq
				batch = batch[n:]
			}
			after.front = front
			after.oldest = time.Time{}
			c := events.Cursor()
			// From the start each time: a cursor is lost where it deletes.
			for k, v := c.First(); k != nil; k, v = c.First() {
				switch upTo := key(k); {
				case upTo <= after.front:
				case l.aged(now, s.addedOf(v)):
					drops = append(drops, loss{upTo, DropAge})
				case after.bytes > l.MaxBytes:
					drops = append(drops, loss{upTo, DropBytes})
				default:
					after.oldest = s.addedOf(v)
				}
				if !after.oldest.IsZero() {
					break
				}
				after.front = max(after.front, key(k))
				after.batches--
				after.bytes -= inPages(v, page)
				if err := c.Delete(); err != nil {
					return err
				}
			}
			after.last = max(after.last, after.front)
			tx.OnCommit(func() { stats := tx.Stats(); pages = stats.GetPageAlloc() })
			return tx.Bucket(bucketState).Put(keyState, after.encode())
		})
	})
	if err == nil {
		after.bytes, err = s.used()
	}
	if err != nil {
		_ = s.close()
		return s.stored, nil, err
	}
	after.written += pages + int64(page)
	after.at = time.Now()
	s.stored = after
	return after, drops, nil
}

// used is what the file's pages that hold something have, in bytes.
func (s *store) used() (used int64, err error) {
	err = s.safely(func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			stats := s.db.Stats()
			used = max(0, tx.Size()-int64(stats.FreePageN+stats.PendingPageN)*int64(s.db.Info().PageSize))
			return nil
		})
	})
	return used, err
}

// inPages is about what a batch takes of the file, of which [store.used] tells the
// whole after each write.
func inPages(v []byte, page int) int64 { return int64(len(v) + 24 + min(len(v), page)/2) }

// read gives up to n messages behind seq. bad is the last message of a batch
// that can't be read, 0 where the whole file can't.
func (s *store) read(seq uint64, n int) (messages []Message, bad uint64, err error) {
	s.opened.RLock()
	defer s.opened.RUnlock()
	if s.db == nil {
		return nil, 0, nil
	}
	err = s.safely(func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			c := tx.Bucket(bucketEvents).Cursor()
			for k, v := c.Seek(toKey(seq + 1)); k != nil && len(messages) < n; k, v = c.Next() {
				batch, err := s.decode(v, key(k))
				if err != nil {
					if len(messages) == 0 {
						bad = key(k)
						return err
					}
					return nil
				}
				for _, m := range batch {
					if m.Seq > seq && len(messages) < n {
						messages = append(messages, m)
						seq = m.Seq
					}
				}
			}
			return nil
		})
	})
	return messages, bad, err
}

// decode is [decodeBatch], once for each batch in a row.
func (s *store) decode(v []byte, last uint64) ([]Message, error) {
	s.decoding.Lock()
	defer s.decoding.Unlock()
	if n := len(s.decoded); n > 0 && s.decoded[n-1].Seq == last {
		return s.decoded, nil
	}
	batch, err := decodeBatch(v, last)
	if err != nil {
		return nil, err
	}
	s.decoded = batch
	return batch, nil
}

// safely turns into an error what bbolt does with a damaged file: it panics, or
// reads where the file has no more bytes.
func (s *store) safely(do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			s.panicked.Store(true)
			err = fmt.Errorf("%w: %v", errDamaged, r)
		}
	}()
	return do()
}

func toKey(seq uint64) []byte { return binary.BigEndian.AppendUint64(nil, seq) }

func key(k []byte) uint64 {
	if len(k) != 8 {
		panic("a key has another length than 8")
	}
	return binary.BigEndian.Uint64(k)
}
