package camera

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sightd/sightd/camera/internal/ring"
	"github.com/sightd/sightd/camera/internal/source"
	"github.com/sightd/sightd/camera/internal/wire"
)

const (
	maxClaims    = 32
	defaultStall = 2 * time.Second
	// fileStall is the least that decoding one frame of a file may take: large
	// images on a slow machine are not a fault.
	fileStall = 30 * time.Second
	leastOpen = 15 * time.Second
)

// Options say what a camera captures, and how.
type Options struct {
	Name string
	// Source is what the configuration calls a source: file:PATH[?loop=true]
	// [&each=true], images:DIR[?…], v4l2:DEVICE, rtsp://…, gst:PIPELINE or
	// test:PATTERN[?frames=N][&each=true].
	Source string
	// Files is instead of Source: images and videos, every frame once, in order.
	// A file that can't be read gives one frame with an error.
	Files []string

	Width, Height int     // asked of the device; 0 leaves it the choice
	FPS           float64 // the most frames a second that are published; 0: all

	// Stall is how long frames may stop before the worker is replaced: 2 s where
	// it is 0. Reading a file may take 30 s at least.
	Stall time.Duration
	// Open is how long opening and the first frame may take: 15 s where it is 0,
	// and never less than Stall.
	Open time.Duration
	// Attempts is after how many workers in a row that gave no frame Run gives
	// up and returns the reason. 0: never.
	Attempts int

	// Worker is the program; "" looks for sightd-camera beside the executable
	// and in ../libexec/sightd.
	Worker string
	// Threads is how many threads OpenCV may use; 0 means 1.
	Threads int
	// Preload makes the worker decode and scale so many frames once, and then
	// publish them round and round as fast as they are taken. Lanes are added
	// before Run then.
	Preload int

	Log *slog.Logger // nil discards
}

// stopped is the reason of a camera whose Run was told to end.
const stopped = "stopped"

// Camera is one source of frames. Its lanes outlive its workers.
type Camera struct {
	o       Options
	source  source.Source
	log     *slog.Logger
	changed chan struct{}
	ended   atomic.Bool
	delays  backoff

	mu      sync.Mutex
	lanes   []*Lane
	nextID  uint32
	worker  *worker // nil while there is none
	running bool
	closed  bool
	status  Status    // counters: of the workers before this one, and removed lanes
	beat    wire.Beat // the present worker's counters
	seq     uint64    // of the newest frame known
}

// New checks the options. It starts nothing.
func New(o Options) (*Camera, error) {
	c := &Camera{o: o, log: o.Log, changed: make(chan struct{}, 1), delays: defaultBackoff}
	var err error
	switch {
	case len(o.Files) > 0 && o.Source != "":
		err = errors.New("both a source and a list of files are given")
	case len(o.Files) > 0:
		c.source = source.Source{Kind: source.Files, Each: true}
	default:
		c.source, err = source.Parse(o.Source)
	}
	switch {
	case err != nil:
	case o.Width < 0 || o.Height < 0 || (o.Width == 0) != (o.Height == 0):
		err = fmt.Errorf("width %d and height %d: wanted both, or neither", o.Width, o.Height)
	case !(o.FPS >= 0 && o.FPS <= 1000):
		err = fmt.Errorf("fps %v: wanted 0 to 1000", o.FPS)
	case o.Stall < 0 || o.Open < 0 || o.Attempts < 0 || o.Threads < 0:
		err = errors.New("stall, open, attempts and threads can't be negative")
	case o.Preload < 0 || o.Preload > 1024:
		err = fmt.Errorf("preload %d: wanted 0 to 1024", o.Preload)
	case o.Preload > 0 && c.source.Live():
		err = fmt.Errorf("preload: %s can't be prepared, only files and tests", c.source)
	}
	if err != nil {
		return nil, fmt.Errorf("camera %q: %w", o.Name, err)
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.log = c.log.With("camera", o.Name)
	c.o.Stall = cmp.Or(o.Stall, defaultStall)
	c.o.Open = max(cmp.Or(o.Open, leastOpen), c.o.Stall)
	c.o.Threads = max(o.Threads, 1)
	c.status = Status{State: Offline, Reason: "not started yet", Since: time.Now()}
	return c, nil
}

// Each is whether every frame counts: the worker waits for the readers, once
// there is one.
func (c *Camera) Each() bool { return c.each() }

// each is whether every frame counts: the worker waits for the readers.
func (c *Camera) each() bool { return c.source.Each || c.o.Preload > 0 }

// resumes is whether a new worker can go on where the one before stopped.
func (c *Camera) resumes() bool { return !c.source.Live() && c.o.Preload == 0 }

// AddLane adds a lane for a reader that claims up to claims frames at a time,
// before or while the camera runs.
func (c *Camera) AddLane(g Geometry, claims int) (*Lane, error) {
	g = g.withDefaults()
	if err := g.Check(); err != nil {
		return nil, fmt.Errorf("camera %q: add a lane: %w", c.o.Name, err)
	}
	if claims < 1 || claims > maxClaims {
		return nil, fmt.Errorf("camera %q: add a lane: %d claims: wanted 1 to %d", c.o.Name, claims, maxClaims)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return nil, fmt.Errorf("camera %q: add a lane: it is closed", c.o.Name)
	case c.running && c.o.Preload > 0:
		return nil, fmt.Errorf("camera %q: add a lane: its frames are prepared already", c.o.Name)
	}
	c.nextID++
	l, err := newLane(c, c.nextID, g, claims)
	if err != nil {
		return nil, fmt.Errorf("camera %q: add a lane: %w", c.o.Name, err)
	}
	c.lanes = append(c.lanes, l)
	if c.worker != nil {
		c.worker.add(l)
	}
	return l, nil
}

// RemoveLane ends a lane and frees its memory: nobody may use its slots any
// more. Removing it twice does nothing.
func (c *Camera) RemoveLane(l *Lane) {
	c.mu.Lock()
	i := slices.Index(c.lanes, l)
	if i >= 0 {
		c.forget(l)
		c.lanes = slices.Delete(c.lanes, i, i+1)
		if c.worker != nil {
			c.worker.send(wire.Message{Remove: &wire.Remove{ID: l.id}})
		}
	}
	c.mu.Unlock()
	if i >= 0 {
		l.close()
	}
}

// forget keeps a lane's counters. The caller holds c.mu.
func (c *Camera) forget(l *Lane) {
	lost, broken := l.counters()
	c.status.Dropped += lost
	c.status.Errors += broken
}

// Close frees the lanes, after Run has returned.
func (c *Camera) Close() error {
	c.mu.Lock()
	if c.running {
		c.mu.Unlock()
		return fmt.Errorf("camera %q: close: it still runs", c.o.Name)
	}
	lanes := c.lanes
	for _, l := range lanes {
		c.forget(l)
	}
	c.lanes, c.closed = nil, true
	c.mu.Unlock()
	for _, l := range lanes {
		l.close()
	}
	return nil
}

// Run captures until ctx ends or the source does, and returns nil then. It
// replaces a worker that dies or hangs, waiting longer each time; only with
// Options.Attempts does it give up.
func (c *Camera) Run(ctx context.Context) error {
	c.mu.Lock()
	if c.running || c.closed || c.ended.Load() {
		c.mu.Unlock()
		return fmt.Errorf("camera %q: run: it runs already or has ended", c.o.Name)
	}
	c.running = true
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.running = false
		c.mu.Unlock()
	}()

	var from crashes
	for failures := 0; ; {
		captured, err := c.life(ctx, &from)
		switch {
		case ctx.Err() != nil:
			c.set(Offline, stopped)
			return nil
		case err == nil:
			c.end()
			return nil
		}
		if captured {
			failures = 0
		}
		failures++
		if !errors.Is(err, errStalled) {
			c.set(Offline, err.Error())
		}
		if c.o.Attempts > 0 && failures >= c.o.Attempts {
			return fmt.Errorf("camera %q: %w", c.o.Name, err)
		}
		select {
		case <-ctx.Done():
			c.set(Offline, stopped)
			return nil
		case <-time.After(c.delays.after(failures)):
		}
		c.mu.Lock()
		c.status.Restarts++
		c.mu.Unlock()
	}
}

func (c *Camera) end() {
	c.ended.Store(true)
	c.set(Ended, "")
	c.mu.Lock()
	lanes := slices.Clone(c.lanes)
	c.mu.Unlock()
	for _, l := range lanes {
		l.signal()
	}
}

// crashes counts the workers that ended at one place of the source.
type crashes struct {
	at    wire.Position
	count int
}

// settings are what the next worker gets, which goes on from the position that
// settle has found.
func (c *Camera) settings(from wire.Position, skip bool) wire.Settings {
	read := c.o.Stall
	if !c.source.Live() {
		read = max(read, fileStall)
	}
	return wire.Settings{
		Source: c.o.Source, Files: c.o.Files,
		Width: c.o.Width, Height: c.o.Height, FPS: c.o.FPS,
		Preload: c.o.Preload, Threads: c.o.Threads,
		Beat: int64(min(max(c.o.Stall/10, 20*time.Millisecond), time.Second)),
		Open: int64(c.o.Open), Read: int64(read),
		From: from, Skip: skip,
	}
}

// settle repairs the lanes after a worker's end, keeps its counters, and
// returns where the next one goes on.
func (c *Camera) settle() wire.Position {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.Captured += c.beat.Captured
	c.status.Skipped += c.beat.Skipped
	c.status.Errors += c.beat.Errors
	c.beat = wire.Beat{}
	var at ring.Meta
	for _, l := range c.lanes {
		m := l.recover()
		c.seq = max(c.seq, m.Seq)
		if m.Number == 0 {
			continue
		}
		// Where every frame counts, the slowest lane says where to go on: the
		// others know what they have.
		if at.Number == 0 || (m.Seq < at.Seq) == c.each() {
			at = m
		}
	}
	switch {
	case !c.resumes():
		return wire.Position{Seq: c.seq + 1}
	case at.Number == 0:
		return wire.Position{Seq: c.seq + 1}
	case at.Err != "":
		return wire.Position{Seq: at.Seq + 1, File: at.File + 1}
	default:
		return wire.Position{Seq: at.Seq + 1, File: at.File, Index: at.Index + 1}
	}
}
