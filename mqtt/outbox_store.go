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
		err = db.View(s.load) // writes nothing: the disk may be full
		if errors.Is(err, errEmpty) {
			err = db.Update(s.lay)
		}
		return err
	})
	if err == nil {
		s.stored.bytes, err = s.used()
	}
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

var errEmpty = errors.New("no buckets yet")

// lay makes the buckets of a new file.
func (s *store) lay(tx *bbolt.Tx) error {
	if _, err := tx.CreateBucket(bucketEvents); err != nil {
		return err
	}
	b, err := tx.CreateBucket(bucketState)
	if err != nil {
		return err
	}
	return b.Put(keyState, s.stored.encode())
}

// load reads what there is. That it is whole is seen by reading, not believed.
func (s *store) load(tx *bbolt.Tx) error {
	s.stored = stored{}
	if tx.Bucket(bucketState) == nil && tx.Bucket(bucketEvents) == nil {
		return errEmpty
	}
	events := tx.Bucket(bucketEvents)
	if events == nil || tx.Bucket(bucketState) == nil || !s.stored.decode(tx.Bucket(bucketState).Get(keyState)) {
		return fmt.Errorf("%w: what it should hold is missing", errDamaged)
	}
	s.stored.last = s.stored.front
	c := events.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if key(k) <= s.stored.last {
			return fmt.Errorf("%w: a key is wrong", errDamaged)
		}
		if s.stored.batches++; s.stored.batches == 1 {
			s.stored.oldest = s.addedOf(v)
		}
		s.stored.last = key(k)
	}
	return nil
}

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
