//go:build gocv_specific_modules

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sightd/sightd/camera/internal/capture"
	"github.com/sightd/sightd/camera/internal/ring"
)

// prepared is a frame as each lane wants it.
type prepared struct {
	meta   ring.Meta
	pixels map[uint32][]byte // by the lane's ID
}

// preloaded reads and scales the first frames of the source and then publishes
// them round and round, as fast as they are taken, until ctx ends.
func (l *loop) preloaded(ctx context.Context) error {
	if err := l.someone(ctx); err != nil {
		return err
	}
	frames, err := l.prepare(ctx)
	if err != nil {
		return err
	}
	for i := 0; ctx.Err() == nil; i++ {
		f := frames[i%len(frames)]
		m := f.meta
		for _, lane := range l.present() {
			slot, ok := l.acquire(ctx, lane)
			if !ok {
				continue
			}
			m.Seq, m.Captured = l.seq, ring.Now()
			copy(lane.memory.Pixels(slot), f.pixels[lane.ID])
			lane.publish(slot, m)
		}
		l.captured.Add(1)
		l.worker.seq.Store(l.seq)
		l.seq++
	}
	return ctx.Err()
}

func (l *loop) prepare(ctx context.Context) ([]prepared, error) {
	lanes := l.present()
	var frames []prepared
	for len(frames) < l.settings.Preload && ctx.Err() == nil {
		info, err := l.read(ctx)
		var bad *capture.FileError
		switch {
		case errors.As(err, &bad):
			l.failed.Add(1)
			l.reportOnce(bad)
			continue
		case errors.Is(err, io.EOF):
			if len(frames) == 0 {
				return nil, errors.New("the source has no frame that could be prepared")
			}
			return frames, nil
		case err != nil:
			return nil, err
		}
		if len(frames) == 0 {
			l.opened(info)
		}
		f := prepared{meta: l.meta(info, ""), pixels: make(map[uint32][]byte)}
		for _, lane := range lanes {
			// The pixels are scaled in a slot, as they always are, and kept apart.
			slot, ok := l.acquire(ctx, lane)
			if !ok {
				return nil, fmt.Errorf("prepare frames: %w", context.Canceled)
			}
			start := time.Now()
			err := lane.scaler.Scale(*l.frame, slot, lane.memory.Pixels(slot))
			f.meta.ScaleNS = int64(time.Since(start))
			f.pixels[lane.ID] = bytes.Clone(lane.memory.Pixels(slot))
			lane.ring.Abort(slot)
			if err != nil {
				return nil, err
			}
		}
		frames = append(frames, f)
	}
	return frames, ctx.Err()
}
