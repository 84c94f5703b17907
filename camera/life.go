package camera

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sightd/sightd/camera/internal/wire"
)

var errStalled = errors.New("frames stopped coming")

// life runs one worker to its end. It returns nil when the source has ended or
// ctx has, and whether the worker gave a frame.
func (c *Camera) life(ctx context.Context, from *crashes) (captured bool, err error) {
	at := c.settle()
	if from.at != at {
		*from = crashes{at: at}
	}
	w, err := c.start(c.settings(at, c.resumes() && from.count >= 2))
	if err != nil {
		return false, err
	}
	captured, err = c.watch(ctx, w)
	c.mu.Lock()
	c.worker = nil
	c.mu.Unlock()
	w.end()
	var fatal fatalError
	switch {
	case errors.Is(err, errWorkerDied):
		err = w.fate()
	case errors.As(err, &fatal) && !captured:
		err = fatalError(string(fatal) + w.said.suffix())
	}
	if errors.Is(err, errWorkerDied) || errors.Is(err, errStalled) {
		from.count++
	}
	return captured, err
}

// start starts a worker and tells it what to capture, and about the lanes.
func (c *Camera) start(s wire.Settings) (*worker, error) {
	w, err := startWorker(c.o.Worker, c.log, c.source)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.lanes {
		w.add(l)
	}
	w.start(s)
	c.worker = w
	return w, nil
}

// watch follows a worker until the source has ended or ctx has (nil), or until
// the worker has died, hangs, or gives up.
func (c *Camera) watch(ctx context.Context, w *worker) (captured bool, err error) {
	// A worker may be quiet while it is loaded; after its first word, no news is
	// bad news. The source may take its time until its first frame.
	silence := time.NewTimer(c.o.Open)
	defer silence.Stop()
	patience := c.o.Open
	var files ration
	for {
		select {
		case <-ctx.Done():
			return captured, nil
		case <-silence.C:
			w.kill() // it can't close anything in order
			return captured, c.stall("the worker gives no sign of life" + w.said.suffix())
		case m, ok := <-w.messages:
			if !ok {
				return captured, errWorkerDied
			}
			switch {
			case m.Hello != nil && m.Hello.Version != wire.Version:
				return captured, fatalError(fmt.Sprintf("the worker speaks version %d of the protocol, wanted %d: install sightd and sightd-camera of one release", m.Hello.Version, wire.Version))
			case m.Opened != nil:
				c.opened(*m.Opened)
			case m.Error != nil && m.Error.Fatal:
				return captured, fatalError(w.redact(m.Error.Text))
			case m.Error != nil && files.one():
				c.log.Warn("camera: a file or frame can't be read", "err", w.redact(m.Error.Text))
			case m.End != nil:
				c.counted(*m.End)
				return true, nil
			case m.Beat != nil:
				c.counted(*m.Beat)
				if m.Beat.Captured > 0 && !captured {
					captured, patience = true, c.patience()
				}
				if captured && m.Beat.Age < int64(patience) {
					c.set(Online, "")
				}
				if m.Beat.Age > int64(patience) {
					reason := fmt.Sprint("no frame for ", time.Duration(m.Beat.Age).Round(time.Millisecond))
					if !captured {
						reason += w.said.suffix()
					}
					return captured, c.stall(reason)
				}
			}
			silence.Reset(c.o.Stall)
		}
	}
}

// patience is how long the next frame may take.
func (c *Camera) patience() time.Duration {
	if c.source.Live() {
		return c.o.Stall
	}
	return max(c.o.Stall, fileStall)
}

func (c *Camera) stall(reason string) error {
	c.set(Stalled, reason)
	return fmt.Errorf("%w: %s", errStalled, reason)
}

func (c *Camera) opened(o wire.Opened) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.Width, c.status.Height, c.status.FPS = o.Width, o.Height, o.FPS
}

// counted keeps a worker's counters, which never go back.
func (c *Camera) counted(b wire.Beat) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.beat.Captured = max(c.beat.Captured, b.Captured)
	c.beat.Skipped = max(c.beat.Skipped, b.Skipped)
	c.beat.Errors = max(c.beat.Errors, b.Errors)
	c.seq = max(c.seq, min(b.Seq, c.seq+1<<32))
}

// fatalError is what a worker gives as the reason for its end.
type fatalError string

func (e fatalError) Error() string { return string(e) }
