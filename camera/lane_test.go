package camera

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestNewestFrameWins(t *testing.T) {
	t.Parallel()
	c := open(t, Options{Source: "test:counter", FPS: 200})
	l := lane(t, c, small, 1)
	run(t, c)
	first, _ := next(t, l)
	if _, ok := l.Take(); ok {
		t.Fatal("a second frame was taken on a lane of one claim")
	}
	until(t, "50 more frames", func() bool { return c.Status().Captured > 50 })
	l.Release(first)
	second, _ := next(t, l)
	if second.Seq < first.Seq+40 {
		t.Errorf("frame %d came after %d, though 50 passed", second.Seq, first.Seq)
	}
	if age := time.Duration(Now() - second.Captured); age < 0 || age > time.Minute {
		t.Errorf("the frame is %v old", age)
	}
	if s := c.Status(); s.Dropped < 40 {
		t.Errorf("status %+v, wanted 40 frames dropped at least", s)
	}
	l.Release(second)
	l.Release(second) // once more does nothing
}

func TestLanesComeAndGoWhileTheCameraRuns(t *testing.T) {
	t.Parallel()
	c := open(t, Options{Source: "test:gradient", FPS: 100})
	a := lane(t, c, small, 1)
	run(t, c)
	f, _ := next(t, a)
	a.Release(f)

	large := Geometry{Width: 96, Height: 64, Resize: "letterbox", Filter: "area", Pad: 9}
	b := lane(t, c, large, 2)
	same := lane(t, c, large, 2)
	var shows [2][]byte
	var seqs [2]uint64
	until(t, "one frame on both new lanes", func() bool {
		for i, l := range []*Lane{b, same} {
			if f, ok := l.Take(); ok {
				shows[i], seqs[i] = bytes.Clone(l.Slots()[f.Slot]), f.Seq
				l.Release(f)
			}
		}
		return seqs[0] == seqs[1] && seqs[0] > 0
	})
	if !bytes.Equal(shows[0], shows[1]) {
		t.Error("two lanes of one geometry show one frame differently")
	}
	if got := shows[0][:3]; !bytes.Equal(got, []byte{9, 9, 9}) {
		t.Errorf("the letterbox's corner is %v, wanted the grey 9", got)
	}

	c.RemoveLane(b)
	c.RemoveLane(b)
	if _, ok := b.Take(); ok {
		t.Error("a frame was taken on a removed lane")
	}
	for _, l := range []*Lane{a, same} {
		last, _ := next(t, l)
		l.Release(last)
		f, _ := next(t, l)
		if f.Seq <= last.Seq {
			t.Errorf("seq %d came after %d", f.Seq, last.Seq)
		}
		l.Release(f)
	}
}

func TestNotifyTellsOfFramesAndTheEnd(t *testing.T) {
	t.Parallel()
	c := open(t, Options{Source: "test:counter?frames=20&each=true"})
	a, b := lane(t, c, small, 1), lane(t, c, small, 1)
	wake := make(chan struct{}, 1)
	a.Notify(wake)
	b.Notify(wake)
	run(t, c)
	taken := 0
	deadline := time.After(30 * time.Second)
	for !a.Ended() || !b.Ended() {
		select {
		case <-wake:
		case <-deadline:
			t.Fatal("not notified")
		}
		for _, l := range []*Lane{a, b} {
			for f, ok := l.Take(); ok; f, ok = l.Take() {
				taken++
				l.Release(f)
			}
		}
	}
	if taken != 40 {
		t.Errorf("%d frames were taken, wanted 20 on each of two lanes", taken)
	}
}

// Not parallel: AllocsPerRun counts everybody's.
func TestNothingIsAllocatedForAFrame(t *testing.T) {
	c := open(t, Options{Source: "test:counter?each=true", Preload: 4})
	l := lane(t, c, small, 2)
	wake := make(chan struct{}, 1)
	l.Notify(wake)
	run(t, c)
	f, _ := next(t, l)
	l.Release(f)
	c.pid()
	allocs := testing.AllocsPerRun(2000, func() {
		for {
			if f, ok := l.Take(); ok {
				l.Release(f)
				return
			}
			<-wake
		}
	})
	if allocs > 0 {
		t.Errorf("%v allocations a frame", allocs)
	}
}

func TestPreloadedFramesGoRoundAndRound(t *testing.T) {
	t.Parallel()
	file := writeFile(t, filepath.Join(t.TempDir(), "a.y4m"), y4m(64, 48, 7))
	c := open(t, Options{Files: []string{file}, Preload: 5})
	a := lane(t, c, small, 2)
	b := lane(t, c, Geometry{Width: 10, Height: 10, Resize: "crop", Filter: "nearest"}, 2)
	run(t, c)
	for i := range 23 {
		for _, l := range []*Lane{a, b} {
			f, ok := next(t, l)
			if got := shown(l.Slots()[f.Slot][0]); !ok || got != i%5 || f.Index != i%5 || f.Seq != uint64(i+1) {
				t.Fatalf("frame %d shows %d: %+v", i, got, f)
			}
			l.Release(f)
		}
	}
	if _, err := c.AddLane(small, 1); err == nil || !strings.Contains(err.Error(), "prepared already") {
		t.Errorf("a lane was added to prepared frames: %v", err)
	}
}

func TestRateHasALimit(t *testing.T) {
	t.Parallel()
	file := writeFile(t, filepath.Join(t.TempDir(), "a.y4m"), y4m(64, 48, 25))
	c := open(t, Options{Source: "file:" + file, FPS: 5}) // a second at 25 a second
	l := lane(t, c, small, 1)
	run(t, c)
	taken := 0
	for f, ok := next(t, l); ok; f, ok = next(t, l) {
		taken++
		l.Release(f)
	}
	s := c.Status()
	if s.State != Ended || s.Captured != 25 || s.Captured-s.Skipped > 6 || s.Captured-s.Skipped < 2 {
		t.Errorf("status %+v, wanted 25 frames captured and about 5 of them published", s)
	}
	if taken == 0 || uint64(taken) > s.Captured-s.Skipped {
		t.Errorf("%d frames taken, %d published", taken, s.Captured-s.Skipped)
	}
	if s.Width != 64 || s.Height != 48 || s.FPS != 25 {
		t.Errorf("status %+v, wanted 64×48 at 25 a second", s)
	}
}
