package daemon

import (
	"time"

	"github.com/sightd/sightd/camera"
)

// monotonic is the time on the clock of the frames' capture times.
func monotonic() time.Duration { return time.Duration(camera.Now()) }

// wall is the wall-clock time of the monotonic time at, by today's offset
// between the two.
func wall(at time.Duration) time.Time {
	return time.Now().Add(at - monotonic()).UTC()
}
