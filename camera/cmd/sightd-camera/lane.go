//go:build gocv_specific_modules

package main

import (
	"fmt"
	"os"

	"gocv.io/x/gocv"

	"github.com/sightd/sightd/camera/internal/capture"
	"github.com/sightd/sightd/camera/internal/ring"
	"github.com/sightd/sightd/camera/internal/wire"
)

// lane is where frames are published for one reader.
type lane struct {
	wire.Add
	memory           *ring.Memory
	published, freed *os.File
	wake             chan struct{} // a slot may be free
	removed          chan struct{} // closed when the daemon has removed the lane

	// The rest belongs to capture.
	ring   *ring.Writer // nil until the first frame
	scaler *capture.Scaler
	done   uint64 // seq of the frame published last
	slot   int    // and where
}

// openLane takes over the files, unless it fails.
func openLane(a wire.Add, files []*os.File) (*lane, error) {
	scaler, err := capture.NewScaler(a, a.Slots)
	if err != nil {
		return nil, fmt.Errorf("open a lane: %w", err)
	}
	memory, err := ring.Open(files[0], ring.Layout{Slots: a.Slots, Width: a.Width, Height: a.Height})
	if err != nil {
		scaler.Close()
		return nil, err
	}
	files[0].Close()
	l := &lane{
		Add: a, memory: memory, published: files[1], freed: files[2], scaler: scaler,
		wake: make(chan struct{}, 1), removed: make(chan struct{}),
	}
	go l.pump()
	return l, nil
}

// pump turns the reader's wake-ups into wake until the lane is closed.
func (l *lane) pump() {
	var count [8]byte
	for {
		if _, err := l.freed.Read(count[:]); err != nil {
			return
		}
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

func (l *lane) close() {
	l.scaler.Close()
	l.published.Close()
	l.freed.Close()
	l.memory.Close()
}

// acquire gets a slot to write to, without waiting.
func (l *lane) acquire(each bool) (int, bool) {
	if l.ring == nil {
		l.ring = ring.NewWriter(l.memory, l.After, !each)
	}
	return l.ring.Acquire()
}

// fill writes the frame's picture into a slot. Where a lane of the same
// geometry has it already, it is copied: that slot is still as it was written,
// since only this process writes, one frame after the other.
func (l *lane) fill(slot int, frame gocv.Mat, before []*lane, seq uint64) error {
	for _, b := range before {
		if b.done == seq && b.same(l) {
			copy(l.memory.Pixels(slot), b.memory.Pixels(b.slot))
			// The picture is in place, the borders' place is not known.
			l.scaler.Forget(slot)
			return nil
		}
	}
	return l.scaler.Scale(frame, slot, l.memory.Pixels(slot))
}

func (l *lane) same(o *lane) bool {
	return l.Width == o.Width && l.Height == o.Height && l.Resize == o.Resize && l.Filter == o.Filter &&
		l.Crop == o.Crop && l.Pad == o.Pad && l.Region == o.Region
}

// publish hands a filled slot to the reader and wakes it.
func (l *lane) publish(slot int, m ring.Meta) {
	l.ring.Publish(slot, m)
	l.done, l.slot = 0, slot
	if m.Err == "" {
		l.done = m.Seq
	}
	// It can only fail by overflow, when a wake-up is pending anyway.
	_, _ = l.published.Write([]byte{1, 1, 1, 1, 1, 1, 1, 1})
}
