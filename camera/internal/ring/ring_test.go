package ring

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
)

var layout = Layout{Slots: 4, Width: 40, Height: 30}

func create(t testing.TB, l Layout) (*Memory, *os.File) {
	t.Helper()
	m, f, err := Create("test", l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.Close()
		m.Close()
	})
	return m, f
}

// The layout is a contract between two programs.
func TestLayoutIsAsDocumented(t *testing.T) {
	t.Parallel()
	var h header
	var s slot
	for name, at := range map[string][2]uintptr{
		"slots": {unsafe.Offsetof(h.slots), 8}, "offset": {unsafe.Offsetof(h.offset), 24}, "stride": {unsafe.Offsetof(h.stride), 32},
		"a slot header's size": {unsafe.Sizeof(s), 512}, "state": {unsafe.Offsetof(s.state), 0},
		"errLen": {unsafe.Offsetof(s.errLen), 4}, "number": {unsafe.Offsetof(s.number), 8}, "seq": {unsafe.Offsetof(s.seq), 16},
		"captured": {unsafe.Offsetof(s.captured), 24}, "decode": {unsafe.Offsetof(s.decode), 32}, "scale": {unsafe.Offsetof(s.scale), 40},
		"file": {unsafe.Offsetof(s.file), 48}, "index": {unsafe.Offsetof(s.index), 52},
		"width": {unsafe.Offsetof(s.width), 56}, "height": {unsafe.Offsetof(s.height), 60}, "err": {unsafe.Offsetof(s.err), 64},
	} {
		if at[0] != at[1] {
			t.Errorf("%s is %d, documented as %d", name, at[0], at[1])
		}
	}
	m, _ := create(t, layout)
	page := uintptr(os.Getpagesize())
	for i := range m.Slots() {
		p := m.Pixels(i)
		if len(p) != 40*30*3 || cap(p) != len(p) || uintptr(unsafe.Pointer(&p[0]))%page != 0 {
			t.Errorf("slot %d has %d bytes at %p", i, len(p), &p[0])
		}
	}
}

func TestMemoryIsOpenedOnlyAsItWasMade(t *testing.T) {
	t.Parallel()
	m, f := create(t, layout)
	for name, l := range map[string]Layout{
		"more slots": {Slots: 5, Width: 40, Height: 30}, "wider": {Slots: 4, Width: 4000, Height: 30},
		"no slots": {Width: 40, Height: 30}, "no pixels": {Slots: 4},
	} {
		if _, err := Open(f, l); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	if err := f.Truncate(1); err == nil {
		t.Error("the memory was cut short under its reader")
	}
	m.header().version = 2
	if _, err := Open(f, layout); err == nil || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("a lane of another version: %v", err)
	}
	if _, _, err := Create("test", Layout{Slots: 4, Width: 1 << 20, Height: 1}); err == nil {
		t.Error("a lane of 2^20 pixels across was made")
	}
}

func TestMetaComesThrough(t *testing.T) {
	t.Parallel()
	m, _ := create(t, layout)
	w, r := NewWriter(m, 41, true), NewReader(m, true)
	want := Meta{
		Number: 42, Seq: 7, Captured: 1e18, DecodeNS: 3, ScaleNS: 4, File: 5, Index: 6, Width: 1920, Height: 1080,
		Err: strings.Repeat("é", 300),
	}
	i, _ := w.Acquire()
	w.Publish(i, want)
	_, got, ok := r.Take()
	want.Err = strings.Repeat("é", ErrorSize/2)
	if diff := cmp.Diff(want, got); !ok || diff != "" {
		t.Errorf("%v: %s", ok, diff)
	}
}

func TestNewestFrameWinsAndTheWriterNeverWaits(t *testing.T) {
	t.Parallel()
	m, _ := create(t, layout) // 2 claims, a writer and one more
	w, r := NewWriter(m, 0, true), NewReader(m, true)
	publish := func() {
		t.Helper()
		i, ok := w.Acquire()
		if !ok {
			t.Fatal("no slot to write to")
		}
		w.Publish(i, Meta{Seq: w.Number() + 1})
	}
	take := func(want uint64) int {
		t.Helper()
		i, meta, ok := r.Take()
		if !ok || meta.Number != want {
			t.Fatalf("frame %d, %v: wanted %d", meta.Number, ok, want)
		}
		return i
	}
	for range 10 {
		publish()
	}
	a := take(10)
	if _, _, ok := r.Take(); ok {
		t.Fatal("an older frame was taken after a newer one")
	}
	for range 10 {
		publish()
	}
	b := take(20)
	publish()
	publish()
	if !r.Release(a) || r.Release(a) {
		t.Error("a slot is released once")
	}
	take(22)
	if r.Lost() != 9+9+1 {
		t.Errorf("%d frames lost, wanted 19", r.Lost())
	}
	r.Release(b)
}

func TestWriterWaitsWhereEveryFrameCounts(t *testing.T) {
	t.Parallel()
	m, _ := create(t, layout)
	w, r := NewWriter(m, 0, false), NewReader(m, false)
	published, taken := 0, uint64(0)
	for taken < 100 {
		for i, ok := w.Acquire(); ok; i, ok = w.Acquire() {
			w.Publish(i, Meta{})
			published++
		}
		i, meta, ok := r.Take()
		if taken++; !ok || meta.Number != taken {
			t.Fatalf("frame %d, %v: wanted %d", meta.Number, ok, taken)
		}
		r.Release(i)
	}
	if published != 103 || r.Lost() != 0 {
		t.Errorf("%d published, %d lost", published, r.Lost())
	}
}

// Writer and reader in one process, so that the race detector sees both.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	for _, newest := range []bool{true, false} {
		t.Run(fmt.Sprint("newest wins: ", newest), func(t *testing.T) {
			t.Parallel()
			m, _ := create(t, layout)
			const frames = 3000
			done := make(chan struct{})
			go func() {
				defer close(done)
				w := NewWriter(m, 0, newest)
				for n := uint64(1); n <= frames; {
					if i, ok := w.Acquire(); ok {
						fill(m.Pixels(i), n)
						w.Publish(i, Meta{Seq: n})
						n++
					} else {
						runtime.Gosched()
					}
				}
			}()
			r := NewReader(m, newest)
			last, taken := uint64(0), 0
			for last < frames {
				i, meta, ok := r.Take()
				if !ok {
					runtime.Gosched()
					continue
				}
				if meta.Seq <= last || !filled(m.Pixels(i), meta.Seq) {
					t.Fatalf("frame %d after %d: whole %v", meta.Seq, last, filled(m.Pixels(i), meta.Seq))
				}
				last = meta.Seq
				taken++
				r.Release(i)
			}
			<-done
			if uint64(taken)+r.Lost() != frames || (!newest && r.Lost() > 0) {
				t.Errorf("%d taken and %d lost of %d", taken, r.Lost(), frames)
			}
		})
	}
}

// fill writes a pattern that tells a frame from every other.
func fill(pixels []byte, seq uint64) {
	for i := range pixels {
		pixels[i] = byte(seq*31 + uint64(i))
	}
}

func filled(pixels []byte, seq uint64) bool {
	for i, p := range pixels {
		if p != byte(seq*31+uint64(i)) {
			return false
		}
	}
	return true
}

func TestNothingIsAllocated(t *testing.T) {
	m, _ := create(t, layout)
	w, r := NewWriter(m, 0, true), NewReader(m, true)
	allocs := testing.AllocsPerRun(100, func() {
		i, _ := w.Acquire()
		w.Publish(i, Meta{Seq: 1})
		i, _, _ = r.Take()
		r.Release(i)
	})
	if allocs > 0 {
		t.Errorf("%v allocations a frame", allocs)
	}
}

// A writer gone mad can spoil frames, never the reader.
func FuzzReaderTrustsNothing(f *testing.F) {
	f.Add([]byte{2, 0, 0, 0, 255, 255, 255, 255}, []byte{2}, true)
	f.Add([]byte{2, 0, 0, 0, 0, 0, 0, 0, 1}, []byte{1, 3, 2, 2}, false)
	f.Fuzz(func(t *testing.T, head, states []byte, newest bool) {
		m, _ := create(t, layout)
		r := NewReader(m, newest)
		for i := range m.Slots() {
			at := headerSize + i*512
			copy(m.data[at:at+512], head)
			if i < len(states) {
				m.slot(i).state.Store(uint32(states[i]))
			}
			if i > 0 {
				m.slot(i).number.Add(uint64(i))
			}
		}
		last := uint64(0)
		for range 3 {
			for range m.Slots() + 1 {
				i, meta, ok := r.Take()
				if !ok {
					break
				}
				if meta.Number <= last || len(meta.Err) > 3*ErrorSize || meta.Width < 0 {
					t.Fatalf("took %+v after %d", meta, last)
				}
				last = meta.Number
				r.Release(i)
			}
			r.Recover()
		}
		w := NewWriter(m, last, newest)
		if _, ok := w.Acquire(); !ok {
			t.Fatal("after recovery there is no slot to write to")
		}
	})
}
