package daemon

import (
	"fmt"

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
	s := &laneSet{engine: e, frame: p.Width * p.Height * 3, classes: p.Classes}
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
		lane, err := v.camera.AddLane(g, 1)
		if err != nil {
			return nil, err
		}
		undo = append(undo, func() { v.camera.RemoveLane(lane) })
		st := &stream{index: i, camera: v.name, lane: lane}
		if p.Batch == 1 {
			for _, pixels := range lane.Slots() {
				b, err := e.Bind(pixels, 1)
				if err != nil {
					return nil, fmt.Errorf("camera %s: bind slot: %w", v.name, err)
				}
				undo = append(undo, func() { b.Close() })
				st.bindings = append(st.bindings, b)
			}
		}
		lane.Notify(wake)
		s.streams = append(s.streams, st)
	}
	if p.Batch > 1 {
		s.batch = make([]byte, p.Batch*s.frame)
		for n := 1; n <= p.Batch; n++ {
			b, err := e.Bind(s.batch[:n*s.frame], n)
			if err != nil {
				return nil, fmt.Errorf("bind batch of %d: %w", n, err)
			}
			undo = append(undo, func() { b.Close() })
			s.bound = append(s.bound, b)
		}
	}
	return s, nil
}

// warm runs the engine once before it serves: the first run allocates and
// loads what the later ones use.
func warm(e Engine, p *Prepared) error {
	b, err := e.Bind(make([]byte, p.Width*p.Height*3), 1)
	if err != nil {
		return fmt.Errorf("warm engine up: %w", err)
	}
	defer b.Close()
	if err := infer(e, b); err != nil {
		return fmt.Errorf("warm engine up: %w", err)
	}
	return nil
}
