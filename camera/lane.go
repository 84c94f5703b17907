package camera

import (
	"os"
	"sync"

	"github.com/sightd/sightd/camera/internal/ring"
	"github.com/sightd/sightd/camera/internal/wire"
)

// Lane is where one reader takes a camera's frames in one geometry. Lanes of
// the same geometry are scaled once.
//
// Take, Release and the rest may be called by several goroutines.
type Lane struct {
	camera   *Camera
	id       uint32
	geometry Geometry

	memory *ring.Memory
	// The files that each worker gets: the memory, and the eventfds that wake
	// the reader and the writer.
	file, published, freed *os.File
	slots                  [][]byte
	pumped                 sync.WaitGroup
	resume                 ring.Meta // the frame that the worker goes on behind; guarded by Camera.mu

	mu     sync.Mutex
	reader *ring.Reader
	seqs   []uint64  // of the frame that each slot was claimed for
	claims int       // that are left
	last   ring.Meta // of the frame taken last
	broken uint64
	notify chan<- struct{}
	closed bool
}

// one is what adds 1 to an eventfd, in the machine's byte order.
var one = [8]byte{1, 1, 1, 1, 1, 1, 1, 1}

func newLane(c *Camera, id uint32, g Geometry, claims int) (*Lane, error) {
	l := &Lane{camera: c, id: id, geometry: g, claims: claims}
	var err error
	l.memory, l.file, err = ring.Create("sightd-lane", ring.Layout{Slots: claims + 2, Width: g.Width, Height: g.Height})
	if err != nil {
		return nil, err
	}
	if l.published, err = wire.Eventfd(); err == nil {
		l.freed, err = wire.Eventfd()
	}
	if err != nil {
		l.close()
		return nil, err
	}
	for i := range l.memory.Slots() {
		l.slots = append(l.slots, l.memory.Pixels(i))
	}
	l.seqs = make([]uint64, len(l.slots))
	l.reader = ring.NewReader(l.memory, !c.each())
	l.pumped.Add(1)
	go l.pump()
	return l, nil
}

// Geometry is what the lane's pictures are scaled to.
func (l *Lane) Geometry() Geometry { return l.geometry }

// Slots is the memory of each slot's pixels: Height×Width×3 bytes of packed
// RGB, page-aligned, outside of Go's heap. It is the same memory for the lane's
// whole life. A slot may be read while a frame in it is claimed.
func (l *Lane) Slots() [][]byte { return l.slots }

// Take claims the newest frame that wasn't taken yet or, where every frame
// counts, the oldest. There is none while as many as AddLane was told are
// claimed. It allocates nothing, but for a frame with an error.
func (l *Lane) Take() (Frame, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !l.closed && l.claims > 0 {
		slot, m, ok := l.reader.Take()
		if !ok {
			break
		}
		if files := len(l.camera.o.Files); files > 0 && m.File >= files {
			l.reader.Release(slot)
			l.broken++
			continue
		}
		l.claims--
		l.seqs[slot] = m.Seq
		l.last = m
		return Frame{
			Seq: m.Seq, Captured: m.Captured, Slot: slot, File: m.File, Index: m.Index,
			Width: m.Width, Height: m.Height, DecodeNS: m.DecodeNS, ScaleNS: m.ScaleNS, Err: m.Err,
		}, true
	}
	return Frame{}, false
}

// Release gives a frame's slot back. A frame that was released already is left
// alone.
func (l *Lane) Release(f Frame) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || f.Slot < 0 || f.Slot >= len(l.seqs) || l.seqs[f.Slot] != f.Seq || !l.reader.Release(f.Slot) {
		return
	}
	l.claims++
	if l.camera.each() {
		// It can only fail by overflow, when a wake-up is pending anyway.
		_, _ = l.freed.Write(one[:])
	}
}

// Notify makes the lane send on ch, without waiting, when a frame has come or
// the source has ended, and once now. Give it room for one; several lanes may
// share it. nil ends it.
func (l *Lane) Notify(ch chan<- struct{}) {
	l.mu.Lock()
	l.notify = ch
	l.mu.Unlock()
	l.signal()
}

// Each is whether every frame counts on this lane.
func (l *Lane) Each() bool { return l.camera.each() }

// Waiting is whether there is a frame to take.
func (l *Lane) Waiting() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.closed && l.reader.Waiting()
}

// Next is the Seq of the frame that Take would give, where every frame counts; 0: there
// is none.
func (l *Lane) Next() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return 0
	}
	return l.reader.Next()
}

// Ended is whether the source has ended and nothing is left to take.
func (l *Lane) Ended() bool {
	if !l.camera.ended.Load() {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed || !l.reader.Waiting()
}

func (l *Lane) signal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.notify == nil {
		return
	}
	select {
	case l.notify <- struct{}{}:
	default:
	}
}

// pump turns the worker's wake-ups into notifications until the lane is closed.
func (l *Lane) pump() {
	defer l.pumped.Done()
	var count [8]byte
	for {
		if _, err := l.published.Read(count[:]); err != nil {
			return
		}
		l.signal()
	}
}

func (l *Lane) counters() (lost, broken uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reader.Lost(), l.reader.Broken() + l.broken
}

// lastTaken is the sequence number of the newest frame that was taken.
func (l *Lane) lastTaken() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last.Seq
}

// recover repairs the lane after a worker's end, and finds the newest frame that
// is complete, taken or not: the next worker goes on behind it.
func (l *Lane) recover() ring.Meta {
	l.mu.Lock()
	l.resume = l.last
	if m := l.reader.Recover(); m.Number > l.resume.Number {
		l.resume = m
	}
	l.mu.Unlock()
	l.signal()
	return l.resume
}

func (l *Lane) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	for _, f := range []*os.File{l.file, l.published, l.freed} {
		if f != nil {
			f.Close()
		}
	}
	l.pumped.Wait()
	if l.memory != nil {
		l.memory.Close()
	}
}
