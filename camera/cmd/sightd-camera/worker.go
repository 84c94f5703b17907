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
