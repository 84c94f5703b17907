package daemon

import (
	"context"
	"errors"

	"github.com/sightd/sightd/camera"
)

// eachFrame hands over the frames that a source gives in one geometry, with their
// pixels, which are the ring's and good for the call alone, until the source ends or
// f has enough. A frame that can't be read comes with its Err and no pixels.
func eachFrame(ctx context.Context, o camera.Options, g camera.Geometry, f func(camera.Frame, []byte) (more bool, err error)) error {
	cam, err := camera.New(o)
	if err != nil {
		return err
	}
	defer cam.Close()
	lane, err := cam.AddLane(g, 1)
	if err != nil {
		return err
	}
	wake := make(chan struct{}, 1)
	lane.Notify(wake)
	running, stop := context.WithCancel(ctx)
	ran := make(chan struct{})
	var failed error // of cam.Run, once ran is closed
	go func() {
		defer close(ran)
		failed = cam.Run(running)
	}()
	defer func() {
		stop()
		<-ran
	}()
	for !lane.Ended() {
		frame, ok := lane.Take()
		if !ok {
			select {
			case <-wake:
			case <-ran:
				if lane.Ended() || lane.Waiting() {
					continue // the last frames, or their end, came just before
				}
				return errors.Join(ctx.Err(), failed)
			case <-ctx.Done():
				return ctx.Err()
			}
			continue
		}
		var pixels []byte
		if frame.Err == "" {
			pixels = lane.Slots()[frame.Slot]
		}
		more, err := f(frame, pixels)
		lane.Release(frame)
		if err != nil || !more {
			return err
		}
	}
	return ctx.Err() // a camera that is stopped ends like one that has no more
}
