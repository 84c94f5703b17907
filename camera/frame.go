package camera

import "github.com/sightd/sightd/camera/internal/ring"

// Frame is a frame that was taken from a lane. Its pixels stand in the lane's
// slot until it is released.
type Frame struct {
	Seq           uint64 // counts the camera's frames, over restarts of the worker
	Captured      int64  // when, as Now counts
	Slot          int    // index into Slots
	File, Index   int    // which of the files, which of its frames; both from 0
	Width, Height int    // of the source, in pixels
	DecodeNS      int64  // time of decoding; 0 where it can't be told from waiting
	ScaleNS       int64  // time of scaling and conversion into the lane
	Err           string // the file can't be read: why; the slot has no picture then
}

// Now is the time on the clock that Frame.Captured is read from:
// CLOCK_MONOTONIC, in nanoseconds.
func Now() int64 { return ring.Now() }
