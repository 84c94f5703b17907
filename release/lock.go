package release

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sightd/sightd/internal/durable"
)

// ErrLocked says that another process owns the state directory. The error is a
// [LockedError].
var ErrLocked = errors.New("the state directory is in use")

// LockedError names who holds the lock.
type LockedError struct {
	Dir string
	PID int // 0: not known
}

func (e *LockedError) Error() string {
	who := "another process"
	if e.PID > 0 {
		who = fmt.Sprintf("process %d", e.PID)
	}
	return fmt.Sprintf("state directory %s is in use by %s", e.Dir, who)
}

// Is makes errors.Is(err, ErrLocked) true.
func (e *LockedError) Is(target error) bool { return target == ErrLocked }

// Lock is the ownership of a state directory. The kernel ends it with the
// process.
type Lock struct{ f *os.File }

// TakeLock takes the lock of a state directory, which it makes where there is
// none. It doesn't wait.
func TakeLock(dir string) (*Lock, error) {
	if err := durable.MkdirAll(dir, 0o755); err != nil {
		return nil, unwritable(dir, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, unwritable(dir, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock the state directory %s: %w", dir, err)
		}
		b := make([]byte, 16)
		n, _ := f.ReadAt(b, 0)
		pid, _ := strconv.Atoi(strings.TrimSpace(string(b[:n])))
		return nil, &LockedError{Dir: dir, PID: pid}
	}
	if err := adopt(dir, f.Name()); err != nil {
		f.Close()
		return nil, unwritable(dir, err)
	}
	// The number is for messages alone: a full disk is no reason not to start.
	if f.Truncate(0) == nil {
		fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	return &Lock{f}, nil
}

// Close gives the lock back. The file stays, since removing it would race with
// the next holder. A child that is just being started has a copy of the descriptor
// until it runs its program, so closing this one alone might not end the lock at once.
func (l *Lock) Close() error {
	l.f.Truncate(0)
	return errors.Join(unix.Flock(int(l.f.Fd()), unix.LOCK_UN), l.f.Close())
}

// unwritable says what can be done about a state directory that can't be
// written.
func unwritable(dir string, err error) error {
	out := ""
	switch {
	case errors.Is(err, unix.EROFS), errors.Is(err, os.ErrPermission):
		out = "; run this as the user that owns it, or set state_dir to a directory that can be written"
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		out = "; make room there, or set state_dir to a directory on a larger disk"
	}
	return fmt.Errorf("write the state directory %s: %w%s", dir, err, out)
}
