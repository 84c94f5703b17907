package camera

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sightd/sightd/camera/internal/source"
	"github.com/sightd/sightd/camera/internal/wire"
)

// misbehaving is a worker of this program that does something wrong.
func misbehaving(t *testing.T, kind string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return script(t, fmt.Sprintf("CAMERA_TEST_WORKER=%s exec %q", kind, self))
}

func misbehave(kind string) {
	conn, err := wire.New(os.NewFile(3, "control"))
	if err != nil {
		panic(err)
	}
	say := func(m wire.Message) {
		if conn.Send(m) != nil {
			os.Exit(0)
		}
	}
	say(wire.Message{Hello: &wire.Hello{Version: wire.Version}})
	var lane, published *os.File
	for {
		m, files, err := conn.Receive()
		if err != nil {
			os.Exit(0)
		}
		switch {
		case m.Add != nil:
			lane, published = files[0], files[1]
		case m.Start != nil && kind == "crashes":
			s, err := wire.ReadSettings(files[0])
			if err == nil && s.Skip {
				say(wire.Message{Error: &wire.Error{Text: "told to skip", Fatal: true}})
			}
			os.Exit(3)
		case m.Start != nil && kind == "scribbles":
			scribble(lane, published, say)
		}
	}
}

// scribble writes at random into a lane's headers, often something that looks
// like a frame.
func scribble(lane, published *os.File, say func(wire.Message)) {
	info, err := lane.Stat()
	if err != nil {
		panic(err)
	}
	data, err := unix.Mmap(int(lane.Fd()), 0, int(info.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		panic(err)
	}
	say(wire.Message{Opened: &wire.Opened{Width: -1, Height: 1 << 40, FPS: 1e300}})
	random := rand.New(rand.NewPCG(5, 6))
	for n := uint64(0); ; n++ {
		slot := data[512+512*random.IntN(3):][:512]
		slot[0] = byte(random.IntN(5)) // the state
		slot[4+random.IntN(508)] = byte(random.Uint32())
		slot[8] = byte(n)
		if n%64 == 0 {
			say(wire.Message{Beat: &wire.Beat{Captured: random.Uint64(), Seq: random.Uint64(), Age: -int64(n)}})
			_, _ = published.Write([]byte{255, 255, 255, 255, 255, 255, 255, 0})
		}
	}
}

// A worker gone mad spoils its frames and nothing else.
func TestWorkerThatScribbles(t *testing.T) {
	t.Parallel()
	c := open(t, Options{Source: "test:bars", Worker: misbehaving(t, "scribbles")})
	l := lane(t, c, small, 1)
	run(t, c)
	taken := 0
	until(t, "it has scribbled a while", func() bool {
		if f, ok := l.Take(); ok {
			taken++
			if f.Slot < 0 || f.Slot >= len(l.Slots()) || f.Width < 0 || len(f.Err) > 2000 {
				t.Fatalf("frame %+v", f)
			}
			l.Release(f)
		}
		s := c.Status()
		return s.Errors > 50 || taken > 1000
	})
}

// A file that ends its worker twice is left out by the third.
func TestFileThatCrashesItsWorkerIsLeftOut(t *testing.T) {
	t.Parallel()
	c := open(t, Options{Files: []string{"a.jpg"}, Worker: misbehaving(t, "crashes"), Attempts: 3})
	c.delays = backoff{first: time.Millisecond, most: time.Millisecond}
	if err := c.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "told to skip") {
		t.Errorf("error %v, wanted the third worker to be told", err)
	}
}

func TestWorkerEndsWithTheDaemon(t *testing.T) {
	t.Parallel()
	c := open(t, Options{Source: "test:bars"})
	w, err := startWorker(c.o.Worker, c.log, source.Source{})
	if err != nil {
		t.Fatal(err)
	}
	w.start(c.settings(wire.Position{}, false))
	until(t, "the worker has begun", func() bool {
		m := <-w.messages
		return m.Opened != nil
	})
	w.conn.Close() // as when the daemon dies
	close(w.quit)
	select {
	case <-w.done:
	case <-time.After(20 * time.Second):
		t.Error("the worker outlives the daemon")
		w.kill()
	}
	<-w.done
}

func TestBackoffGrowsToItsLimit(t *testing.T) {
	t.Parallel()
	b := backoff{first: time.Second, most: 10 * time.Second}
	for failures, want := range map[int]time.Duration{1: 1, 2: 2, 3: 4, 4: 8, 5: 10, 6: 10, 1000: 10} {
		want *= time.Second
		if got := b.after(failures); got < want*3/4 || got > want*5/4 {
			t.Errorf("after %d failures %v, wanted about %v", failures, got, want)
		}
	}
}
