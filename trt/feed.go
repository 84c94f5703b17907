package trt

import (
	"context"
	"io"
	"os"
)

// feed is images on their way to a builder, through a pipe to its standard input. The
// pipe bounds what is under way. Whichever side dies, the other one's next read or
// write ends: there is nothing to wait for.
type feed struct {
	ctx    context.Context // ends when the images' source fails or nobody wants more
	cancel context.CancelCauseFunc
	parent context.Context

	from, to *os.File
	unwanted bool // a write has failed

	done chan struct{}
	err  error // of the source, once done is closed; nil: all images are in the pipe
}

// startFeed has f write into a pipe. end has to be called.
func startFeed(parent context.Context, f func(context.Context, io.Writer) error) (*feed, error) {
	from, to, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	i := &feed{parent: parent, from: from, to: to, done: make(chan struct{})}
	i.ctx, i.cancel = context.WithCancelCause(parent)
	stop := context.AfterFunc(i.ctx, func() { to.Close() }) // so that no write waits
	go func() {
		defer close(i.done)
		defer to.Close()
		defer stop()
		i.err = f(i.ctx, i)
		if i.err != nil && !i.unwanted {
			i.cancel(i.err)
		}
	}()
	return i, nil
}

// Write is called by the source.
func (i *feed) Write(b []byte) (int, error) {
	n, err := i.to.Write(b)
	i.unwanted = i.unwanted || err != nil
	return n, err
}

// end ends the feed, after the builder is gone, and returns why the build failed.
// built is how the builder ended; spare: it may have done without the images.
func (i *feed) end(built error, spare bool) error {
	failure := context.Cause(i.ctx)
	i.cancel(nil)
	<-i.done
	switch {
	case i.err == nil:
		return built
	case i.parent.Err() != nil:
		if built == nil { // it took where the images were cut off for their end
			built = &Error{Cancelled, "build", "cancelled: " + context.Cause(i.parent).Error()}
		}
		return built
	case failure != nil:
		return failure
	case built == nil && !spare:
		return &Error{Failed, "build", "the builder ended before it had read all images for the calibration"}
	}
	return built
}
