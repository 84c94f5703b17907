package daemon

import (
	"errors"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sightd/sightd/camera"
)

// monotonic is the time on the clock of the frames' capture times.
func monotonic() time.Duration { return time.Duration(camera.Now()) }

// wall is the wall-clock time of the monotonic time at, by today's offset
// between the two.
func wall(at time.Duration) time.Time {
	return time.Now().Add(at - monotonic()).UTC()
}

// wallClock knows whether the wall clock was set since the machine started. A
// Jetson without a battery begins with the time of its last stop, or with 1970.
type wallClock struct{ seen atomic.Bool }

// timesynced is there once systemd-timesyncd has set the clock since the boot.
const timesynced = "/run/systemd/timesync/synchronized"

var errClock = errors.New("the kernel says that the clock isn't synchronised, so it may be that of another day: " +
	"give chrony or systemd-timesyncd a time server, until timedatectl says \"System clock synchronized: yes\"")

// ClockSet is nil where the machine's clock is set, and says why it may not be
// otherwise.
func ClockSet() error { return new(wallClock).set() }

// set is nil where the clock is set. The kernel takes it for lost again some hours
// after the last word of a time server (16 s of possible error, at 500 ppm); it is
// good enough here, so once seen is enough.
func (c *wallClock) set() error {
	if c.seen.Load() {
		return nil
	}
	var t unix.Timex // modes 0: it only reads
	state, err := unix.Adjtimex(&t)
	if err == nil && state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0 {
		c.seen.Store(true)
		return nil
	}
	if _, err := os.Stat(timesynced); err == nil {
		c.seen.Store(true)
		return nil
	}
	return errClock
}
