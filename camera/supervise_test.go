package camera

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// signal sends a signal to the present worker, if there is one.
func (c *Camera) signal(s os.Signal) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.worker != nil && c.worker.cmd.Process.Signal(s) == nil
}

// pid is the present worker's process, 0 without one.
func (c *Camera) pid() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.worker == nil {
		return 0
	}
	return c.worker.cmd.Process.Pid
}

// script makes a program of the shell.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "worker")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWorkerThatDiesIsReplaced(t *testing.T) {
	t.Parallel()
	c := open(t, Options{Source: "test:counter", FPS: 100})
	c.delays = backoff{first: time.Millisecond, most: time.Millisecond}
	l := lane(t, c, small, 2)
	slots := l.Slots()
	run(t, c)
	held, _ := next(t, l)
	pixels := bytes.Clone(slots[held.Slot])

	last := held.Seq
	for range 3 {
		old := c.pid()
		c.signal(os.Kill)
		until(t, "another worker's frame", func() bool {
			f, ok := l.Take()
			if !ok {
				return false
			}
			defer l.Release(f)
			if f.Seq <= last {
				t.Fatalf("seq %d came after %d", f.Seq, last)
			}
			last = f.Seq
			return c.pid() != old && c.pid() != 0 && c.Status().State == Online
		})
	}
	if !bytes.Equal(slots[held.Slot], pixels) {
		t.Error("a claimed frame was written over")
	}
	l.Release(held)
	if s := c.Status(); s.Restarts != 3 {
		t.Errorf("%d restarts, wanted 3", s.Restarts)
	}
}

// However often its worker is killed, a source of which every frame counts gives
// each of them once, whole and in order.
func TestEveryFrameComesOnceOverDeaths(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var files []string
	for i := range 3 {
		files = append(files, writeFile(t, filepath.Join(dir, fmt.Sprint(i, ".y4m")), y4m(64, 48, 40)))
	}
	files = append(files,
		writePNG(t, filepath.Join(dir, "good.png"), picture(64, 48)),
		writeFile(t, filepath.Join(dir, "bad.jpg"), []byte("no image")))
	c := open(t, Options{Files: files})
	c.delays = backoff{first: time.Millisecond, most: time.Millisecond}
	a, b := lane(t, c, small, 1), lane(t, c, small, 3)
	run(t, c)
	random := rand.New(rand.NewPCG(1, 2))
	var seen [2][]Frame
	kills := 0
	until(t, "the end", func() bool {
		for i, l := range []*Lane{a, b} {
			f, ok := l.Take()
			if !ok {
				continue
			}
			if f.Err == "" && f.File < 3 {
				if got := shown(l.Slots()[f.Slot][0]); got != f.Index {
					t.Fatalf("file %d, frame %d shows %d", f.File, f.Index, got)
				}
			}
			seen[i] = append(seen[i], f)
			l.Release(f)
			if kills < 6 && random.IntN(12) == 0 && c.signal(os.Kill) {
				kills++
			}
		}
		return a.Ended() && b.Ended()
	})
	if kills == 0 {
		t.Fatal("no worker was killed")
	}
	for i, frames := range seen {
		var got []string
		for _, f := range frames {
			got = append(got, fmt.Sprint(f.File, "/", f.Index))
		}
		var want []string
		for file := range 3 {
			for index := range 40 {
				want = append(want, fmt.Sprint(file, "/", index))
			}
		}
		want = append(want, "3/0", "4/0")
		if !slices.Equal(got, want) {
			t.Errorf("lane %d, after %d kills: %v", i, kills, got)
		}
		if last := frames[len(frames)-1]; !strings.Contains(last.Err, "is not an image") {
			t.Errorf("lane %d: the last frame is %+v", i, last)
		}
	}
}

// A worker that hangs is found out within Options.Stall, and replaced.
func TestWorkerThatHangsIsReplaced(t *testing.T) {
	t.Parallel()
	c := open(t, Options{Source: "test:counter", FPS: 100, Stall: 500 * time.Millisecond})
	c.delays = backoff{first: time.Millisecond, most: time.Millisecond}
	l := lane(t, c, small, 1)
	run(t, c)
	f, _ := next(t, l)
	l.Release(f)
	old := c.pid()
	c.signal(syscall.SIGSTOP)
	until(t, "stalled", func() bool { return c.Status().State == Stalled })
	until(t, "online again", func() bool { return c.Status().State == Online })
	if c.pid() == old {
		t.Error("the stopped worker still serves")
	}
	if err := syscall.Kill(old, 0); err == nil {
		t.Error("the stopped worker still lives")
	}
	f, ok := next(t, l)
	if !ok {
		t.Error("no frame after the stall")
	}
	l.Release(f)
}

// A source that opens, gives frames and then blocks is found out, although the
// call into OpenCV doesn't return.
func TestSourceThatStopsIsReplaced(t *testing.T) {
	t.Parallel()
	const w, h = 64, 48
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	var stalled atomic.Bool
	quit := make(chan struct{})
	t.Cleanup(func() {
		listener.Close()
		close(quit)
		served.Wait()
	})
	served.Add(1)
	go func() {
		defer served.Done()
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			served.Add(1)
			go func() {
				defer served.Done()
				defer conn.Close()
				// Until the stall is found a worker gets ten frames, then nothing.
				for i := 0; i < 10 || stalled.Load(); i++ {
					if _, err := conn.Write(make([]byte, w*h)); err != nil {
						return
					}
					select {
					case <-quit:
						return
					case <-time.After(10 * time.Millisecond):
					}
				}
				<-quit
			}()
		}
	}()

	c := open(t, Options{
		Source: fmt.Sprintf("gst:tcpclientsrc host=127.0.0.1 port=%d ! rawvideoparse format=gray8 width=%d height=%d framerate=25/1",
			listener.Addr().(*net.TCPAddr).Port, w, h),
		Stall: time.Second,
	})
	c.delays = backoff{first: time.Millisecond, most: time.Millisecond}
	lane(t, c, small, 1)
	run(t, c)
	until(t, "stalled", func() bool { return c.Status().State == Stalled })
	stalled.Store(true)
	if reason := c.Status().Reason; !strings.HasPrefix(reason, "no frame for ") {
		t.Errorf("stalled because %q", reason)
	}
	until(t, "online again", func() bool { return c.Status().State == Online })
}

func TestWorkersThatAreNone(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ worker, reason string }{
		"absent":     {"/no/such/worker", "no program sightd-camera, looked at /no/such/worker"},
		"fails":      {script(t, "echo cannot open shared object file >&2; exit 127"), "the worker ended: exit status 127 (cannot open shared object file)"},
		"silent":     {script(t, "exec sleep 60"), "frames stopped coming: the worker gives no sign of life"},
		"babbles":    {script(t, `printf '{"hello":' >&3; exec sleep 60`), "the worker ended"},
		"is shut":    {script(t, "exec 3>&-; exec sleep 60"), "the worker ended"},
		"of another": {script(t, `printf '{"hello":{"version":77}}' >&3; exec sleep 60`), "the worker speaks version 77"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := open(t, Options{Source: "test:bars", Worker: test.worker, Attempts: 1, Stall: 300 * time.Millisecond, Open: 300 * time.Millisecond})
			c.delays = backoff{first: time.Millisecond, most: time.Millisecond}
			err := c.Run(t.Context())
			if err == nil || !strings.Contains(err.Error(), test.reason) {
				t.Errorf("error %v, wanted %q", err, test.reason)
			}
			if s := c.Status(); s.State == Online {
				t.Errorf("status %+v", s)
			}
		})
	}
}

// What a worker writes to the control socket and to its log has bounds.
func TestWorkerThatFloodsIsBounded(t *testing.T) {
	t.Parallel()
	var log lines
	c := open(t, Options{
		Source: "rtsp://user:s3cret%21@127.0.0.1:1/stream", Attempts: 1, Log: log.logger(),
		Worker: script(t, `i=0; while [ $i -lt 3000 ]; do echo "line $i with rtsp://user:s3cret%21@host and s3cret! in it"; i=$((i+1)); done >&2
head -c 100000 /dev/zero | tr '\0' x >&2; exit 1`),
	})
	if err := c.Run(t.Context()); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("error %v", err)
	}
	text := log.String()
	if n := strings.Count(text, "\n"); n > 40 {
		t.Errorf("%d lines were logged", n)
	}
	if strings.Contains(text, "s3cret") {
		t.Errorf("the log shows the password:\n%s", text)
	}
}
