//go:build gocv_specific_modules

package main

import (
	"context"
	"errors"
	"time"

	"gocv.io/x/gocv"

	"github.com/sightd/sightd/camera/internal/capture"
	"github.com/sightd/sightd/camera/internal/ring"
	"github.com/sightd/sightd/camera/internal/source"
	"github.com/sightd/sightd/camera/internal/wire"
)

// loop is the capture's way from the source to the lanes.
type loop struct {
	*worker
	src      capture.Source
	frame    *gocv.Mat
	settings wire.Settings
	kind     source.Source
	each     bool // every frame counts
	seq      uint64
	due      time.Time // when the next frame is to be shown
	gate     gate
	told     map[int]bool // files that were reported: a loop comes by again
}

// run reads, paces and publishes until the source ends with io.EOF, fails, or
// ctx ends.
func (l *loop) run(ctx context.Context) error {
	l.gate.period = l.gatePeriod()
	for ; ctx.Err() == nil; l.seq++ {
		if l.each {
			if err := l.someone(ctx); err != nil {
				return err
			}
		}
		info, err := l.read(ctx)
		var bad *capture.FileError
		switch {
		case errors.As(err, &bad):
			l.failed.Add(1)
			if l.each && !bad.Partial {
				l.publish(ctx, l.meta(info, err.Error()))
				continue
			}
			l.reportOnce(bad)
			l.seq-- // no frame
			continue
		case err != nil:
			return err
		}
		if l.captured.Add(1) == 1 {
			l.opened(info)
		}
		l.worker.seq.Store(l.seq)
		if !l.gate.open(time.Now()) {
			l.skipped.Add(1)
			continue
		}
		l.publish(ctx, l.meta(info, ""))
	}
	return ctx.Err()
}

func (l *loop) reportOnce(e *capture.FileError) {
	if !l.told[e.File] {
		l.told[e.File] = true
		l.report(e)
	}
}

// gatePeriod is the least time between two published frames; 0: all are
// published. Images and patterns come at that rate anyway.
func (l *loop) gatePeriod() time.Duration {
	if l.each || l.settings.FPS <= 0 || l.kind.Kind == source.Images || l.kind.Kind == source.Test {
		return 0
	}
	return time.Duration(float64(time.Second) / l.settings.FPS)
}

// read reads a frame, and waits until it is due where the source has a pace.
func (l *loop) read(ctx context.Context) (capture.Info, error) {
	l.reading.Store(ring.Now())
	info, err := l.src.Read(l.frame)
	if err != nil {
		return info, err
	}
	l.reading.Store(0)
	if l.each || info.Period == 0 {
		l.reading.Store(ring.Now())
		return info, nil
	}
	defer func() { l.reading.Store(ring.Now()) }()
	now := time.Now()
	if l.due.IsZero() || now.Sub(l.due) > time.Second {
		l.due = now // the first, or too late to catch up
	}
	if wait := l.due.Sub(now); wait > 0 {
		select {
		case <-ctx.Done():
			return info, ctx.Err()
		case <-time.After(wait):
		}
	}
	l.due = l.due.Add(info.Period)
	return info, nil
}

func (l *loop) opened(info capture.Info) {
	o := wire.Opened{Width: info.Width, Height: info.Height}
	if info.Period > 0 {
		o.FPS = float64(time.Second) / float64(info.Period)
	}
	l.send(wire.Message{Opened: &o})
	l.send(wire.Message{Beat: l.counters()}) // the daemon waits for it
}

func (l *loop) meta(info capture.Info, err string) ring.Meta {
	return ring.Meta{
		Seq: l.seq, Captured: ring.Now(), DecodeNS: int64(info.Decode),
		File: info.File, Index: info.Index, Width: info.Width, Height: info.Height, Err: err,
	}
}

// someone waits for the first lane.
func (l *loop) someone(ctx context.Context) error {
	for len(l.present()) == 0 {
		l.reading.Store(0)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.added:
		}
	}
	return nil
}

// publish puts the frame on every lane. Lanes of one geometry are scaled once.
func (l *loop) publish(ctx context.Context, m ring.Meta) {
	lanes := l.present()
	for i, lane := range lanes {
		if m.Seq <= lane.Seq {
			continue // it was given before the worker's restart
		}
		slot, ok := l.acquire(ctx, lane)
		if !ok {
			continue
		}
		if m.Err == "" {
			start := time.Now()
			if err := lane.fill(slot, *l.frame, lanes[:i], m.Seq); err != nil {
				m.Err = err.Error()
				l.failed.Add(1)
				l.reportOnce(&capture.FileError{File: m.File, Err: err})
			}
			m.ScaleNS = int64(time.Since(start))
		}
		if m.Err != "" && !l.each {
			lane.ring.Abort(slot)
			continue
		}
		lane.publish(slot, m)
	}
}

// acquire gets a slot to write to. Where every frame counts it waits for one,
// until the lane is removed or ctx ends.
func (l *loop) acquire(ctx context.Context, lane *lane) (slot int, ok bool) {
	for {
		if slot, ok := lane.acquire(l.each); ok || !l.each {
			return slot, ok
		}
		l.reading.Store(0)
		select {
		case <-lane.wake:
		case <-lane.removed:
			return 0, false
		case <-ctx.Done():
			return 0, false
		}
	}
}
