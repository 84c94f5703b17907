package daemon

import (
	"fmt"
	"runtime"

	"github.com/sightd/sightd/camera"
)

// view is a camera as one model looks at it.
type view struct {
	name   string
	camera *camera.Camera
	region [4]float64 // the part looked at; see camera.Geometry
}

// attach gives the engine a lane in each camera's ring and binds every slot of
// it once. What was taken is given back by the set's Close, and at an error at
// once. The engine is the set's from then on, also at an error.
func attach(e *OpenedEngine, p *Prepared, views []view, wake chan<- struct{}) (_ *laneSet, err error) {
	s := &laneSet{
		engine: e, frame: p.Width * p.Height * 3, classes: p.Classes,
		batch: p.Batch, wake: wake, runs: make([]run, max(e.Lanes(), 1)+1),
	}
	var undo []func()
	s.release = func() {
		for i := len(undo) - 1; i >= 0; i-- {
			undo[i]()
		}
		e.Close()
	}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	for i, v := range views {
		g := p.Geometry
		g.Region = v.region
		lane, err := v.camera.AddLane(g, len(s.runs)) // a frame is claimed until its result has been said
		if err != nil {
			return nil, err
		}
		undo = append(undo, func() { v.camera.RemoveLane(lane) })
		st := &stream{index: i, camera: v.name, lane: lane}
		undo = append(undo, st.unbind)
		for _, pixels := range lane.Slots() {
			if err := st.bind(e, pixels, p.Batch); err != nil {
				return nil, fmt.Errorf("camera %s: bind slot: %w", v.name, err)
			}
		}
		lane.Notify(wake)
		s.streams = append(s.streams, st)
	}
	for i := range s.runs {
		n := &s.runs[i]
		n.frames, n.from = make([]camera.Frame, 0, p.Batch), make([]*stream, 0, p.Batch)
		if p.Batch == 1 {
			continue
		}
		n.pixels = make([]byte, p.Batch*s.frame)
		undo = append(undo, pin(n.pixels))
		// From the largest on: a GPU's driver then has all the memory, and takes what is
		// within for what it is.
		n.bound = make([]Binding, p.Batch)
		for count := p.Batch; count > 0; count-- {
			b, err := e.Bind(n.pixels[:count*s.frame], count)
			if err != nil {
				return nil, fmt.Errorf("bind batch of %d: %w", count, err)
			}
			undo = append(undo, func() { b.Close() })
			n.bound[count-1] = b
		}
	}
	return s, nil
}

// bind makes a slot known to the engine.
func (s *stream) bind(e Engine, pixels []byte, batch int) error {
	if batch > 1 {
		f, err := e.Frame(pixels)
		if err == nil {
			s.frames = append(s.frames, f)
		}
		return err
	}
	b, err := e.Bind(pixels, 1)
	if err == nil {
		s.bindings = append(s.bindings, b)
	}
	return err
}

func (s *stream) unbind() {
	for _, b := range s.bindings {
		b.Close()
	}
	for _, f := range s.frames {
		f.Close()
	}
}

// pin keeps Go memory where it is, for those outside of Go, until unpin.
func pin(b []byte) (unpin func()) {
	p := new(runtime.Pinner)
	p.Pin(&b[0])
	return p.Unpin
}

// warm runs the engine twice on each lane before it serves: the first runs
// allocate and load what the later ones use, and TensorRT wants a plain run before
// one is captured as a CUDA graph.
func warm(e Engine, p *Prepared) error {
	pixels := make([]byte, p.Batch*p.Width*p.Height*3)
	defer pin(pixels)()
	b, err := e.Bind(pixels, p.Batch)
	if err != nil {
		return fmt.Errorf("warm engine up: %w", err)
	}
	defer b.Close()
	for range 2 * e.Lanes() {
		if err := infer(e, b); err != nil {
			return fmt.Errorf("warm engine up: %w", err)
		}
	}
	return nil
}
