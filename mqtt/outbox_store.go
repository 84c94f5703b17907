package mqtt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/sightd/sightd/internal/durable"
)

// A store is the part of an outbox that lies in a file: a bbolt database with
// two buckets. `events` holds what one write took, compressed, under the Seq of
// its last message; `state` holds, under one key, how far the queue's front has
// come. bbolt was chosen for its two properties: a transaction is there whole or
// not at all after a power cut, and it needs no log to be replayed at the start.
//
// Its list of free pages isn't written (NoFreelistSync): after a long outage it
// would be larger than all that a write writes.
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

// entryOverhead is about what bbolt keeps beside a batch, page ends included.
const entryOverhead = 128

func (s *store) isOpen() bool { return s.db != nil }

// aside is where a damaged file goes. One is kept, for whoever wants to look.
func (s *store) aside() string { return s.path + ".corrupt" }

// open opens the file or makes it, and says what is in it.
func (s *store) open() (stored, error) {
	s.panicked.Store(false)
	s.decoding.Lock()
	s.decoded = nil
	s.decoding.Unlock()
	err := s.safely(func() error {
		_, statErr := os.Stat(s.path)
		if statErr == nil {
			if err := checkFile(s.path); err != nil {
				return err
			}
		}
		db, err := s.openDB(statErr == nil)
		switch {
		case errors.Is(err, berrors.ErrTimeout):
			return fmt.Errorf("%s: %w", s.path, errInUse)
		case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrVersionMismatch), errors.Is(err, berrors.ErrChecksum):
			return fmt.Errorf("%w: %w", errDamaged, err)
		case err != nil:
			if info, e := os.Stat(s.path); statErr == nil && e == nil && info.Mode().IsRegular() && !isSystem(err) {
				return fmt.Errorf("%w: %w", errDamaged, err)
			}
			return err
		}
		db.AllocSize = 1 << 20 // by how much the file grows
		s.opened.Lock()
		s.db, s.since = db, time.Now()
		s.opened.Unlock()
		return db.Update(s.load)
	})
	if err != nil {
		_ = s.close()
		return stored{}, err
	}
	return s.stored, nil
}

// openDB opens the database, or makes it under another name first: bbolt writes the
// beginning of one in place, of which a power cut would leave a part.
func (s *store) openDB(exists bool) (*bbolt.DB, error) {
	o := &bbolt.Options{Timeout: time.Second, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType}
	if exists {
		return bbolt.Open(s.path, 0o600, o)
	}
	temp := s.path + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	db, err := bbolt.Open(temp, 0o600, o)
	if err != nil {
		return nil, err
	}
	// It is closed, and its lock held, when it has its name.
	if _, err = os.Stat(s.path); err == nil {
		err = os.Remove(temp) // another process was quicker
	} else {
		err = durable.Rename(temp, s.path)
	}
	if err = errors.Join(err, db.Close()); err != nil {
		return nil, err
	}
	return bbolt.Open(s.path, 0o600, o)
}

// isSystem tells the system's errors from bbolt's, which are about contents.
func isSystem(err error) bool {
	var e *os.PathError
	var errno interface{ Temporary() bool }
	return errors.As(err, &e) || errors.As(err, &errno)
}

// load reads the state, and makes the buckets.
func (s *store) load(tx *bbolt.Tx) error {
	s.stored = stored{}
	if tx.Bucket(bucketState) == nil && tx.Bucket(bucketEvents) == nil {
		if _, err := tx.CreateBucket(bucketEvents); err != nil {
			return err
		}
		b, err := tx.CreateBucket(bucketState)
		if err != nil {
			return err
		}
		return b.Put(keyState, s.stored.encode())
	}
	events := tx.Bucket(bucketEvents)
	if events == nil || tx.Bucket(bucketState) == nil || !s.stored.decode(tx.Bucket(bucketState).Get(keyState)) {
		return fmt.Errorf("%w: what it should hold is missing", errDamaged)
	}
	s.stored.last = s.stored.front
	if k, _ := events.Cursor().Last(); k != nil {
		if len(k) != 8 || key(k) <= s.stored.front || s.stored.batches < 1 {
			return fmt.Errorf("%w: a key is wrong", errDamaged)
		}
		s.stored.last = key(k)
		_, v := events.Cursor().First()
		s.stored.oldest = s.addedOf(v)
	} else if s.stored.batches != 0 {
		return fmt.Errorf("%w: events are missing", errDamaged)
	}
	return nil
}

// A loss says that all messages up to upTo are given up.
type loss struct {
	upTo  uint64
	cause string
}

// commit removes what is in front, adds batch, and keeps the bounds by removing
// the oldest.
func (s *store) commit(front uint64, batch []queued, l Limits, now time.Time) (stored, []loss, error) {
	after := s.stored
	var drops []loss
	var pages int64
	err := s.safely(func() error {
		return s.db.Update(func(tx *bbolt.Tx) error {
			after, drops = s.stored, nil
			events := tx.Bucket(bucketEvents)
			events.FillPercent = 1 // keys only grow
			for len(batch) > 0 {
				n := portion(batch)
				value := encodeBatch(batch[:n])
				if err := events.Put(toKey(batch[n-1].Seq), value); err != nil {
					return err
				}
				after.batches++
				after.bytes += int64(len(value)) + entryOverhead
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
				case now.Sub(s.addedOf(v)) > l.MaxAge:
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
				after.bytes -= int64(len(v)) + entryOverhead
				if err := c.Delete(); err != nil {
					return err
				}
			}
			after.last = max(after.last, after.front)
			pages = 0
			tx.OnCommit(func() { stats := tx.Stats(); pages = stats.GetPageAlloc() })
			return tx.Bucket(bucketState).Put(keyState, after.encode())
		})
	})
	if err != nil {
		return s.stored, nil, err
	}
	after.written += pages + int64(s.db.Info().PageSize)
	after.at = time.Now()
	s.stored = after
	return after, drops, nil
}

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

// startAfresh sets the file aside and makes a new one.
func (s *store) startAfresh() (stored, error) {
	_ = s.close()
	if err := durable.Rename(s.path, s.aside()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return stored{}, err
	}
	return s.open()
}

func (s *store) close() error {
	s.opened.Lock()
	db := s.db
	s.db = nil
	s.opened.Unlock()
	if db == nil || s.panicked.Load() {
		return nil
	}
	return s.safely(db.Close)
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
