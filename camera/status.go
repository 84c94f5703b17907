package camera

import "time"

// State is what a camera does.
type State string

// The states of a camera.
const (
	Offline State = "offline" // no worker, or none that has given a frame yet
	Online  State = "online"  // frames come
	Stalled State = "stalled" // frames stopped coming; the worker is replaced
	Ended   State = "ended"   // the source has ended
)

// Status is what a camera does and has done.
type Status struct {
	State  State
	Reason string // why it is not online
	Since  time.Time

	Width, Height int     // of the source; 0 until it is opened
	FPS           float64 // that the source promises; 0 where it promises none

	Captured uint64 // frames read from the source
	Skipped  uint64 // of them, those above Options.FPS, which were not published
	Dropped  uint64 // frames on a lane that a newer one replaced before they were taken
	Errors   uint64 // files and frames that couldn't be read
	Restarts uint64 // workers started after the first
}

// Status returns the present state and the counters. They follow the worker
// with a delay of up to a tenth of Options.Stall, and are exact at the end.
func (c *Camera) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.status
	s.Captured += c.beat.Captured
	s.Skipped += c.beat.Skipped
	s.Errors += c.beat.Errors
	for _, l := range c.lanes {
		lost, broken := l.counters()
		s.Dropped += lost
		s.Errors += broken
		// What was taken was captured, whatever the worker has told yet.
		s.Captured = max(s.Captured, l.lastTaken())
	}
	return s
}

// Changed has a value after the state has changed; several changes may become
// one. It has one reader.
func (c *Camera) Changed() <-chan struct{} { return c.changed }

// set changes the state, and logs the change.
func (c *Camera) set(state State, reason string) {
	c.mu.Lock()
	same := c.status.State == state && c.status.Reason == reason
	if c.status.State != state {
		c.status.Since = time.Now()
	}
	c.status.State, c.status.Reason = state, reason
	c.mu.Unlock()
	if same {
		return
	}
	select {
	case c.changed <- struct{}{}:
	default:
	}
	switch {
	case state == Online:
		c.log.Info("camera is online")
	case reason == stopped:
		c.log.Info("camera is stopped")
	case state == Ended:
		c.log.Info("camera's source has ended")
	default:
		c.log.Warn("camera is "+string(state), "err", reason)
	}
}
