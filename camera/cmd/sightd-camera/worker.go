//go:build gocv_specific_modules

package main

import (
	"context"
	"errors"
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gocv.io/x/gocv"

	"github.com/sightd/sightd/camera/internal/capture"
	"github.com/sightd/sightd/camera/internal/ring"
	"github.com/sightd/sightd/camera/internal/source"
	"github.com/sightd/sightd/camera/internal/wire"
)

// worker captures frames and publishes them on lanes. listen changes the lanes,
// capture uses them, beat tells how it goes.
type worker struct {
	conn  *wire.Conn
	added chan struct{} // a lane was added

	mu    sync.Mutex
	lanes []*lane
	gone  []*lane // removed, to be closed by capture

	captured, skipped, failed, seq atomic.Uint64
	// reading is since when the source is waited for, as ring.Now counts; 0
	// while it isn't.
	reading atomic.Int64
}

func newWorker(conn *wire.Conn) *worker {
	w := &worker{conn: conn, added: make(chan struct{}, 1)}
	w.reading.Store(ring.Now())
	return w
}

// listen follows the daemon until it says stop or is gone.
func (w *worker) listen(settings chan<- wire.Settings) {
	for {
		m, files, err := w.conn.Receive()
		if err != nil {
			return
		}
		switch {
		case m.Stop != nil:
			wire.CloseAll(files)
			return
		case m.Start != nil && len(files) == 1:
			s, err := wire.ReadSettings(files[0])
			files[0].Close()
			if err != nil {
				w.report(err)
				return
			}
			select {
			case settings <- s:
			default: // a second start changes nothing
			}
		case m.Add != nil && len(files) == 3:
			l, err := openLane(*m.Add, files)
			if err != nil {
				wire.CloseAll(files)
				w.report(err)
				continue
			}
			w.mu.Lock()
			w.lanes = append(w.lanes, l)
			w.mu.Unlock()
			select {
			case w.added <- struct{}{}:
			default:
			}
		case m.Remove != nil:
			w.remove(m.Remove.ID)
		default:
			wire.CloseAll(files)
		}
	}
}

func (w *worker) remove(id uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if i := slices.IndexFunc(w.lanes, func(l *lane) bool { return l.ID == id }); i >= 0 {
		close(w.lanes[i].removed)
		w.gone = append(w.gone, w.lanes[i])
		w.lanes = slices.Delete(slices.Clone(w.lanes), i, i+1)
	}
}

// present is the lanes to publish on. It closes those that were removed.
func (w *worker) present() []*lane {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.gone {
		l.close()
	}
	w.gone = nil
	return w.lanes
}

// send tells the daemon something. If it can't be told it is gone, and listen
// finds that out.
func (w *worker) send(m wire.Message) { _ = w.conn.Send(m) }

func (w *worker) report(err error) {
	w.send(wire.Message{Error: &wire.Error{Text: clip(err.Error())}})
}

func (w *worker) counters() *wire.Beat {
	b := &wire.Beat{
		Captured: w.captured.Load(), Skipped: w.skipped.Load(),
		Errors: w.failed.Load(), Seq: w.seq.Load(),
	}
	if since := w.reading.Load(); since > 0 {
		b.Age = max(ring.Now()-since, 0)
	}
	return b
}

// beat tells the daemon that the worker lives until ctx ends. It goes on while
// a call into OpenCV hangs.
func (w *worker) beat(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			w.send(wire.Message{Beat: w.counters()})
		}
	}
}

// capture publishes the source's frames until it ends (nil), fails, or ctx ends.
func (w *worker) capture(ctx context.Context, s wire.Settings) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ctx, cancel := context.WithCancel(ctx)
	var beating sync.WaitGroup
	beating.Add(1)
	go func() {
		defer beating.Done()
		w.beat(ctx, max(time.Duration(s.Beat), time.Millisecond))
	}()
	defer beating.Wait()
	defer cancel()

	capture.SetThreads(s.Threads)
	src, kind, err := capture.Open(s)
	if err != nil {
		return err
	}
	defer src.Close()
	frame := gocv.NewMat()
	defer func() { frame.Close() }()
	defer func() {
		w.mu.Lock()
		w.gone = append(w.gone, w.lanes...)
		w.lanes = nil
		w.mu.Unlock()
		w.present()
	}()
	l := &loop{worker: w, src: src, frame: &frame, settings: s, kind: kind, each: kind.Each || s.Preload > 0, seq: s.From.Seq, told: map[int]bool{}}
	if s.Preload > 0 {
		err = l.preloaded(ctx)
	} else {
		err = l.run(ctx)
	}
	if errors.Is(err, io.EOF) {
		cancel()
		beating.Wait()
		w.reading.Store(0)
		w.send(wire.Message{End: w.counters()})
		return nil
	}
	return err
}

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
