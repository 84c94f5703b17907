package camera

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/sightd/sightd/internal/testenv"
)

// small is a geometry for tests that don't look at the scaling.
var small = Geometry{Width: 32, Height: 24, Resize: "stretch", Filter: "linear"}

// testLog writes to a test's log.
type testLog struct{ t *testing.T }

func (l testLog) Write(line []byte) (int, error) {
	l.t.Logf("%s", bytes.TrimSpace(line))
	return len(line), nil
}

// running is a camera that runs until the test ends.
type running struct {
	*Camera
	t    *testing.T
	done chan error
	stop func()
}

func open(t *testing.T, o Options) *Camera {
	t.Helper()
	if o.Worker == "" {
		o.Worker = testenv.Worker(t)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(testLog{t}, nil))
	}
	if o.Name == "" {
		o.Name = "test"
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func lane(t *testing.T, c *Camera, g Geometry, claims int) *Lane {
	t.Helper()
	l, err := c.AddLane(g, claims)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func run(t *testing.T, c *Camera) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Camera: c, t: t, done: make(chan error, 1)}
	go func() { r.done <- c.Run(ctx) }()
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-r.done; err != nil {
			t.Errorf("run: %v", err)
		}
	}
	t.Cleanup(r.stop)
	return r
}

// until waits for a condition: 30 s at most.
func until(t *testing.T, what string, met func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !met(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// next waits for a frame; none once the source has ended.
func next(t *testing.T, l *Lane) (f Frame, ok bool) {
	t.Helper()
	until(t, "a frame", func() bool {
		f, ok = l.Take()
		return ok || l.Ended()
	})
	return f, ok
}

func TestEachFrameComesOnceAndInOrder(t *testing.T) {
	t.Parallel()
	const frames = 500
	c := open(t, Options{Source: "test:counter?frames=500&each=true", Width: 64, Height: 48})
	l := lane(t, c, small, 2)
	run(t, c)
	for i := range frames {
		f, ok := next(t, l)
		if !ok {
			t.Fatalf("ended after %d frames, wanted %d", i, frames)
		}
		if f.Index != i || f.Seq != uint64(i+1) {
			t.Fatalf("frame %d has index %d and seq %d", i, f.Index, f.Seq)
		}
		if got := l.Slots()[f.Slot][:3]; got[0] != 0 || int(got[1])<<8|int(got[2]) != i {
			t.Fatalf("frame %d shows %v", i, got)
		}
		l.Release(f)
	}
	if _, ok := next(t, l); ok {
		t.Fatal("a frame came after the end")
	}
	if s := c.Status(); s.State != Ended || s.Captured != frames || s.Dropped != 0 {
		t.Errorf("status %+v, wanted %d frames captured, none dropped", s, frames)
	}
}
