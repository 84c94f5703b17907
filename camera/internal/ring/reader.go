package ring

import "strings"

// Reader takes frames from a lane. Its methods are not safe for concurrent use.
type Reader struct {
	m          *Memory
	newestWins bool
	last       uint64 // number of the frame taken last
	held       []bool // the slots that this reader has claimed
	lost       uint64
	broken     uint64
}

// NewReader reads a lane that nothing was taken from yet.
func NewReader(m *Memory, newestWins bool) *Reader {
	return &Reader{m: m, newestWins: newestWins, held: make([]bool, m.layout.Slots)}
}

// Take claims the newest frame that wasn't taken yet or, unless the newest
// wins, the oldest. It allocates only for a frame that carries an error.
func (r *Reader) Take() (i int, meta Meta, ok bool) {
	// The writer can take a slot back between look and claim. Each such miss
	// means a newer frame is near, so a few turns suffice, and a writer gone
	// mad can't hold the reader up.
	for range 4 * r.m.layout.Slots {
		i := r.find()
		if i < 0 {
			return 0, Meta{}, false
		}
		s := r.m.slot(i)
		if !s.state.CompareAndSwap(ready, claimed) {
			continue
		}
		meta, ok := r.meta(s)
		if !ok {
			r.broken++
			s.state.Store(free)
			continue
		}
		r.lost += meta.Number - r.last - 1
		r.last = meta.Number
		r.held[i] = true
		return i, meta, true
	}
	return 0, Meta{}, false
}

// find is the slot to take next, -1 if there is none. While it looks, the writer
// may publish a frame in a slot that was passed over and then a newer one
// further on: where every frame counts only the very next one will do.
func (r *Reader) find() int {
	best, number := -1, r.last
	for i := range r.m.layout.Slots {
		s := r.m.slot(i)
		if r.held[i] || s.state.Load() != ready {
			continue
		}
		switch n := s.number.Load(); {
		case r.newestWins && n > number:
			best, number = i, n
		case !r.newestWins && n == r.last+1:
			return i
		}
	}
	return best
}

// meta copies a claimed slot's header. It is false where that can't be true.
func (r *Reader) meta(s *slot) (Meta, bool) {
	m := Meta{
		Number: s.number.Load(), Seq: s.seq,
		Captured: s.captured, DecodeNS: s.decode, ScaleNS: s.scale,
		File: int(s.file), Index: int(s.index),
		Width: int(s.width), Height: int(s.height),
	}
	n := s.errLen
	switch {
	case m.Number <= r.last, m.Number-r.last > 1<<40, m.Seq > 1<<56,
		m.Captured < 0, m.DecodeNS < 0, m.ScaleNS < 0,
		m.Width > maxSource, m.Height > maxSource, n > ErrorSize:
		return Meta{}, false
	}
	if n > 0 {
		m.Err = strings.ToValidUTF8(string(s.err[:n]), "�")
	}
	return m, true
}

// Release frees a claimed slot. Releasing one that isn't claimed does nothing
// and returns false.
func (r *Reader) Release(i int) bool {
	if i < 0 || i >= len(r.held) || !r.held[i] {
		return false
	}
	r.held[i] = false
	r.m.slot(i).state.Store(free)
	return true
}

// Waiting is whether a frame can be taken.
func (r *Reader) Waiting() bool { return r.find() >= 0 }

// Next is the Seq of the frame that Take would give, where every frame counts; 0: there
// is none.
func (r *Reader) Next() uint64 {
	i := r.find()
	if i < 0 {
		return 0
	}
	return r.m.slot(i).seq
}

// Lost counts frames that a newer one replaced before they were taken; Broken
// counts those whose header made no sense.
func (r *Reader) Lost() uint64   { return r.lost }
func (r *Reader) Broken() uint64 { return r.broken }

// Recover repairs the lane after its writer's process has ended: what was being
// written is free again, claims and ready frames stay. It returns the newest
// frame that is complete, taken or not, or one of Number 0 if none is untaken.
func (r *Reader) Recover() (newest Meta) {
	for i := range r.m.layout.Slots {
		s := r.m.slot(i)
		switch m, ok := r.meta(s); {
		case r.held[i]:
			s.state.Store(claimed)
		case s.state.Load() != ready || !ok:
			s.state.Store(free)
		case r.newestWins && m.Number > newest.Number:
			newest = m
		}
	}
	if r.newestWins {
		return newest
	}
	for found := true; found; {
		found = false
		for i := range r.m.layout.Slots {
			m, ok := r.meta(r.m.slot(i))
			if ok && r.m.slot(i).state.Load() == ready && m.Number == max(r.last, newest.Number)+1 {
				newest, found = m, true
			}
		}
	}
	// A writer leaves no gaps. What is behind one would never be taken.
	for i := range r.m.layout.Slots {
		if s := r.m.slot(i); s.state.Load() == ready && s.number.Load() > max(r.last, newest.Number) {
			s.state.Store(free)
		}
	}
	return newest
}
