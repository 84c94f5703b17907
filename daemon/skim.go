package daemon

// skim has a set that isn't handed over yet let go of the frames that come to its
// lanes, which what serves classifies all the same. Where every frame counts, a
// camera's worker waits for each of its lanes: what serves would have no frames as soon
// as these are full, for as long as the proof's outcome takes to reach the disk.
// collect ends it.
func (s *laneSet) skim() {
	wake, quit, done := make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	for _, st := range s.streams {
		st.lane.Notify(wake)
	}
	go func() {
		defer close(done)
		for {
			select {
			case <-wake:
			case <-quit:
				return
			}
			for _, st := range s.streams {
				st.skim()
			}
		}
	}()
	s.skimmed = func() {
		close(quit)
		<-done
		for _, st := range s.streams {
			st.lane.Notify(s.wake)
		}
	}
}

// collect has the lanes keep their frames from now on. What was let go of before is
// with what serves: a worker gives a frame to all lanes before it takes the next.
func (s *laneSet) collect() {
	if s.skimmed != nil {
		s.skimmed()
		s.skimmed = nil
	}
}

// skim lets go of what waits where every frame counts; elsewhere newer frames take its
// place.
func (s *stream) skim() {
	for s.lane.Each() {
		f, ok := s.lane.Take()
		if !ok {
			return
		}
		s.lane.Release(f)
	}
}
