package ring

import "unicode/utf8"

// Writer publishes frames on a lane. One goroutine of one process uses it.
type Writer struct {
	m          *Memory
	newestWins bool
	number     uint64
}

// NewWriter goes on after the frame with the given number, 0 on a new lane.
func NewWriter(m *Memory, after uint64, newestWins bool) *Writer {
	return &Writer{m: m, newestWins: newestWins, number: after}
}

// Acquire gives a slot to write to. There is none while every slot is claimed
// or, unless the newest wins, waits for the reader.
func (w *Writer) Acquire() (i int, ok bool) {
	for i := range w.m.layout.Slots {
		if w.m.slot(i).state.CompareAndSwap(free, writing) {
			return i, true
		}
	}
	for w.newestWins {
		oldest, lowest := -1, ^uint64(0)
		for i := range w.m.layout.Slots {
			s := w.m.slot(i)
			if s.state.Load() == ready && s.number.Load() < lowest {
				oldest, lowest = i, s.number.Load()
			}
		}
		if oldest < 0 {
			break
		}
		if w.m.slot(oldest).state.CompareAndSwap(ready, writing) {
			return oldest, true
		}
	}
	return 0, false
}

// Publish hands an acquired slot to the reader. It sets Number itself.
func (w *Writer) Publish(i int, meta Meta) {
	s := w.m.slot(i)
	w.number++
	s.number.Store(w.number)
	s.seq = meta.Seq
	s.captured, s.decode, s.scale = meta.Captured, meta.DecodeNS, meta.ScaleNS
	s.file, s.index = uint32(meta.File), uint32(meta.Index)
	s.width, s.height = uint32(meta.Width), uint32(meta.Height)
	s.errLen = uint32(copy(s.err[:], clip(meta.Err, ErrorSize)))
	s.state.Store(ready)
}

// Abort gives an acquired slot back unpublished.
func (w *Writer) Abort(i int) { w.m.slot(i).state.Store(free) }

// Number is the number of the frame published last.
func (w *Writer) Number() uint64 { return w.number }

// clip shortens text to n bytes without cutting a character in two.
func clip(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}
