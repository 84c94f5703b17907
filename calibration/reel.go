package calibration

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"log/slog"
	"slices"

	"github.com/sightd/sightd/camera"
)

// reel is a run of files that one worker decodes after another.
type reel struct {
	files    []string
	geometry camera.Geometry
	worker   string // path of sightd-camera; "" finds it
	log      *slog.Logger
	room     int // frames that may be kept

	kept       []*frame // the first ones
	dropped    bool     // there are frames behind them:
	file, next int      // from which file, and which of its frames, on
	hashes     []uint64
	unreadable []Unreadable
}

// read decodes all files for the first time.
func (r *reel) read(ctx context.Context, done func()) error {
	return r.decode(ctx, r.files, func(c camera.Frame, pixels []byte) error {
		defer done()
		if c.Err != "" {
			r.unreadable = append(r.unreadable, Unreadable{r.files[c.File], reason(r.files[c.File], c.Err)})
			return nil
		}
		f := r.frame(c, c.File, pixels)
		r.hashes = append(r.hashes, f.hash)
		switch {
		case len(r.kept) < r.room:
			f.pixels, f.kept = append(f.pixels, pixels...), true
			r.kept = append(r.kept, f)
		case !r.dropped:
			r.dropped, r.file, r.next = true, c.File, c.Index
		}
		return nil
	})
}

func (r *reel) frame(c camera.Frame, file int, pixels []byte) *frame {
	sum := sha256.Sum256(pixels)
	return &frame{path: r.files[file], index: c.Index, hash: binary.LittleEndian.Uint64(sum[:])}
}

// send sends the wanted frames, those that aren't kept in buffers from spare.
func (r *reel) send(ctx context.Context, want func(*frame) bool, work chan<- *frame, spare <-chan []byte) error {
	give := func(f *frame) error {
		select {
		case work <- f:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for _, f := range r.kept {
		if want == nil || want(f) {
			if err := give(f); err != nil {
				return err
			}
		}
	}
	if !r.dropped {
		return nil
	}
	return r.decode(ctx, r.files[r.file:], func(c camera.Frame, pixels []byte) error {
		if c.File == 0 && c.Index < r.next {
			return nil
		}
		path := r.files[r.file+c.File]
		if c.Err != "" {
			if slices.ContainsFunc(r.unreadable, func(u Unreadable) bool { return u.Path == path }) {
				return nil
			}
			return fmt.Errorf("%s could be read before and can't any more: %s: leave the images alone while they are looked at", path, reason(path, c.Err))
		}
		f := r.frame(c, r.file+c.File, pixels)
		if want != nil && !want(f) {
			return nil
		}
		select {
		case f.pixels = <-spare:
		case <-ctx.Done():
			return ctx.Err()
		}
		f.pixels = append(f.pixels[:0], pixels...)
		return give(f)
	})
}

// decode has a worker decode the files, and gives each frame in turn.
func (r *reel) decode(ctx context.Context, files []string, give func(f camera.Frame, pixels []byte) error) error {
	const attempts = 3 // workers in a row that may end without a frame
	cam, err := camera.New(camera.Options{Name: "images", Files: files, Worker: r.worker, Log: r.log, Attempts: attempts})
	if err != nil {
		return err
	}
	defer cam.Close()
	lane, err := cam.AddLane(r.geometry, 1)
	if err != nil {
		return err
	}
	wake := make(chan struct{}, 1)
	lane.Notify(wake)
	run, stop := context.WithCancel(ctx)
	ran := make(chan struct{})
	var failed error
	go func() {
		defer close(ran)
		failed = cam.Run(run)
	}()
	defer func() {
		stop()
		<-ran
	}()
	for {
		select {
		case <-wake:
		case <-ran:
			if failed != nil {
				return failed
			}
		case <-ctx.Done():
			return ctx.Err()
		}
		for f, ok := lane.Take(); ok; f, ok = lane.Take() {
			err := give(f, lane.Slots()[f.Slot])
			lane.Release(f)
			if err != nil {
				return err
			}
		}
		if lane.Ended() {
			return ctx.Err()
		}
	}
}

// size is that of a frame, in bytes.
func (r *reel) size() int { return r.geometry.Width * r.geometry.Height * 3 }
