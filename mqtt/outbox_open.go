package mqtt

import (
	"errors"
	"fmt"
	"os"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/sightd/sightd/internal/durable"
)

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
