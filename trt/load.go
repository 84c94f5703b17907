package trt

import (
	"fmt"
	"runtime"
	"sync"
	"unsafe"
)

// Lanes is how many lanes an engine on a GPU has where [LoadOptions] don't say: two
// overlap the copies of one run with the work on another, and a third hides what is
// done between two runs of a lane.
const Lanes = 3

// maxLanes is the most that the C ABI allows.
const maxLanes = 8

// LoadOptions say how an engine is run.
type LoadOptions struct {
	Lanes  int     // runs that may be under way at once on the GPU; 0: 2
	Graphs bool    // launch runs as CUDA graphs, where that works
	Cores  []int   // DLA cores to run on, one lane each; nil: the GPU
	Direct *Direct // for a plan of the second form
}

// Direct is how pixels become the input of a plan of DLA's second form.
type Direct struct {
	Table    [][256]int8 // by channel of the network
	Channels []int       // Channels[c] is which byte of a pixel channel c is made of
	Softmax  bool        // scores are made of the output by softmax
}

// Engine is a loaded engine. Bind, Close and the rest may be called by several
// goroutines; a binding is one goroutine's at a time.
type Engine struct {
	info    engineInfo // memory is that of all parts
	cleanup runtime.Cleanup

	// Runs hold mu for reading; Close, Bind and a binding's Close hold it for
	// writing, so they wait for calls to end.
	mu      sync.RWMutex
	session *session // nil once closed

	lanesMu sync.Mutex
	lanes   []lane
	next    int // lane that is tried first
}

// lane is where a run is under way, or none.
type lane struct {
	part int // of the session's engines
	at   int // number among that engine's lanes
	busy bool
}

// session is what the library holds for an engine: one of its engines for the GPU or
// for each DLA core. Nothing in it leads back to the Engine, so that it can be freed
// when the Engine is garbage.
type session struct {
	parts    []unsafe.Pointer
	bindings map[*bound]struct{}
	direct   *Direct // read by the library, where it is pinned
	pinned   runtime.Pinner
}

func (s *session) close() {
	for b := range s.bindings {
		b.close()
	}
	clear(s.bindings)
	for _, e := range s.parts {
		callUnload(e)
	}
	s.parts = nil
	s.pinned.Unpin()
}

// Load deserialises a plan, which must have been checked before: a plan is code. It
// isn't needed afterwards. Needs [Open].
func Load(plan []byte, o LoadOptions) (*Engine, error) {
	if !isOpen() {
		return nil, errNotOpen
	}
	if err := o.check(plan); err != nil {
		return nil, &Error{BadArgument, "load", err.Error()}
	}
	cores, lanes := o.Cores, 1
	if cores == nil {
		cores, lanes = []int{-1}, o.Lanes
		if lanes == 0 {
			lanes = Lanes
		}
	}
	s := &session{bindings: map[*bound]struct{}{}}
	if o.Direct != nil {
		// A copy, since the caller's may change while it is read.
		s.direct = &Direct{append([][256]int8(nil), o.Direct.Table...), append([]int(nil), o.Direct.Channels...), o.Direct.Softmax}
	}
	e := &Engine{session: s}
	for _, core := range cores {
		if err := e.load(plan, core, lanes, o.Graphs); err != nil {
			s.close()
			return nil, err
		}
	}
	e.cleanup = runtime.AddCleanup(e, (*session).close, s)
	return e, nil
}

// load adds the engine for one device.
func (e *Engine) load(plan []byte, core, lanes int, graphs bool) error {
	s := e.session
	part, err := callLoad(plan, core, lanes, graphs, s.direct, &s.pinned)
	if err != nil {
		return err
	}
	s.parts = append(s.parts, part)
	info, err := callEngineInfo(part)
	if err != nil {
		return err
	}
	if err := info.check(); err != nil {
		return &Error{BadPlan, "load", err.Error()}
	}
	memory := e.info.memory + info.memory
	e.info = info
	e.info.memory = memory
	for at := range info.lanes {
		e.lanes = append(e.lanes, lane{part: len(s.parts) - 1, at: at})
	}
	return nil
}

func (o LoadOptions) check(plan []byte) error {
	if len(plan) == 0 {
		return fmt.Errorf("the plan is empty")
	}
	if o.Lanes < 0 || o.Lanes > maxLanes {
		return fmt.Errorf("%d lanes: wanted 1 to %d", o.Lanes, maxLanes)
	}
	if o.Cores != nil && (len(o.Cores) == 0 || len(o.Cores) > maxLanes) {
		return fmt.Errorf("%d DLA cores: wanted 1 to %d", len(o.Cores), maxLanes)
	}
	for _, core := range o.Cores {
		if core < 0 {
			return fmt.Errorf("DLA core %d: wanted 0 or more", core)
		}
	}
	if d := o.Direct; d != nil {
		return checkChannels(len(d.Table), d.Channels)
	}
	return nil
}

// checkChannels checks how the channels of a network are made of a pixel's bytes.
func checkChannels(tables int, channels []int) error {
	if tables < 1 || tables > 3 || len(channels) != tables {
		return fmt.Errorf("tables for %d channels, made of %v: wanted 1 to 3, each made of a byte", tables, channels)
	}
	for _, c := range channels {
		if c < 0 || c > 2 {
			return fmt.Errorf("a channel made of byte %d of a pixel: wanted 0 to 2", c)
		}
	}
	return nil
}

// maxDimension bounds what is multiplied.
const maxDimension = 1 << 15

// check refuses what no engine of images has.
func (i engineInfo) check() error {
	for _, n := range []int{i.batch, i.height, i.width, i.classes, i.lanes} {
		if n < 1 || n > 1<<24 {
			return fmt.Errorf("the engine says that it takes %d images of %d×%d pixels, gives %d classes and has %d lanes",
				i.batch, i.width, i.height, i.classes, i.lanes)
		}
	}
	if max(i.height, i.width, i.batch) > maxDimension || i.lanes > maxLanes {
		return fmt.Errorf("the engine is too large: %d images of %d×%d pixels, %d lanes", i.batch, i.width, i.height, i.lanes)
	}
	return nil
}

// Batch is the most images in a run.
func (e *Engine) Batch() int { return e.info.batch }

// Height is that of the images, in pixels.
func (e *Engine) Height() int { return e.info.height }

// Width is that of the images, in pixels.
func (e *Engine) Width() int { return e.info.width }

// Classes is the number of scores for each image.
func (e *Engine) Classes() int { return e.info.classes }

// Lanes is how many runs may be under way at once.
func (e *Engine) Lanes() int { return len(e.lanes) }

// DeviceMemory is what the engine needs of the device's memory, in bytes, as far as
// TensorRT tells.
func (e *Engine) DeviceMemory() uint64 { return e.info.memory }

// Layers are the engine's layers, in order, as the inspector tells them.
func (e *Engine) Layers() ([]Layer, error) {
	e.mu.Lock() // the inspector isn't for several threads
	defer e.mu.Unlock()
	if e.session == nil {
		return nil, ErrClosed
	}
	text, err := callInspect(e.session.parts[0])
	if err != nil {
		return nil, err
	}
	layers, err := parseLayers(text)
	if err != nil {
		return nil, &Error{Failed, "inspect", err.Error()}
	}
	return layers, nil
}

// Close waits for runs, closes the engine's bindings and frees all. Closing again
// does nothing. It never fails.
func (e *Engine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.session == nil {
		return nil
	}
	e.cleanup.Stop()
	e.session.close()
	e.session = nil
	return nil
}
