package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/trt"
)

// apart has a test run once more, in a process with a mount namespace of its own, and
// is true there.
func apart(t *testing.T) bool {
	t.Helper()
	const variable, none = "DAEMON_TEST_APART", "no namespace"
	if os.Getenv(variable) == t.Name() {
		dir := t.TempDir()
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4k"); err != nil {
			t.Fatal(none, err)
		}
		_ = unix.Unmount(dir, unix.MNT_DETACH)
		return true
	}
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	c.Env = append(os.Environ(), variable+"="+t.Name())
	testenv.OwnMounts(c)
	out, err := c.CombinedOutput()
	switch {
	case c.ProcessState == nil || strings.Contains(string(out), none):
		t.Skipf("no mount namespace to be had here: %v %s", err, out)
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// smallDisk mounts a file system of 1 MiB at a folder, in a namespace of its own.
func smallDisk(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// left are the names in a folder.
func left(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// filler is a builder on whose disk something else takes all the room that is left.
type filler struct {
	builder
	before, after func() // it writes the engine
}

func (b *filler) Build(ctx context.Context, p *Prepared, dir string, progress func(BuildProgress)) (*BuildReport, error) {
	if b.before != nil {
		b.before()
	}
	r, err := b.builder.Build(ctx, p, dir, progress)
	if b.after != nil {
		b.after()
	}
	return r, err
}

func TestAFullDiskLeavesNothingOfABuild(t *testing.T) {
	t.Parallel()
	if !apart(t) {
		return
	}
	for name, makes := range map[string]func(*filler, func()){
		"while it is built":  func(b *filler, full func()) { b.before = full },
		"while it is stored": func(b *filler, full func()) { b.after = full },
		"before it is begun": func(b *filler, full func()) { full() },
		"as the builder has it": func(b *filler, full func()) {
			full()
			b.fail = &trt.Error{Status: trt.Failed, Op: "build", Message: "write engine: no space left on device"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, b := testStore(t), &filler{}
			smallDisk(t, s.Dir)
			var filling string
			makes(b, func() { filling = testenv.Fill(t, s.Dir) })
			_, err := s.Open(t.Context(), b, preparedOf("graph"), nil)
			var off *ErrBackOff
			if !errors.As(err, &off) || off.Refused || time.Until(off.Until) > time.Minute || time.Until(off.Until) < 50*time.Second {
				t.Errorf("error %v, %+v; want it to be tried again", err, off)
			}
			if err == nil || !strings.Contains(err.Error(), "no space left in "+s.Dir+": make room there") {
				t.Errorf("error %v", err)
			}
			for _, name := range left(t, s.Dir) {
				if name != "filling" { // no note of the failure either: the next process tries again
					t.Errorf("left: %s", name)
				}
			}
			if err := os.Remove(filling); err != nil {
				t.Fatal(err)
			}
			b.before, b.after, b.fail = nil, nil, nil
			if e := open(t, s, b, "graph"); e.Stored {
				t.Error("something of it was stored")
			}
			if !open(t, s, b, "graph").Stored {
				t.Error("with room it isn't stored")
			}
		})
	}
}

func TestTheCPUServesUntilThereIsRoomForTheEngine(t *testing.T) {
	t.Parallel()
	if !apart(t) {
		return
	}
	c := testConfig(t, bars())
	smallDisk(t, filepath.Join(c.StateDir, "engines"))
	var filling string
	room := make(chan struct{})
	b := &scripted{name: "tensorrt", lanes: 1}
	b.building = func(_ context.Context, n int, _ func(BuildProgress)) error {
		if n == 1 {
			filling = testenv.Fill(t, filepath.Join(c.StateDir, "engines"))
		}
		select {
		case <-room:
			return os.Remove(filling)
		default:
			return nil
		}
	}
	d, _ := begin(t, c, Options{backend: b, spare: &scripted{name: "ort", lanes: 1}, pace: quick})
	eventually(t, "builds have failed", func() bool { return d.model().Builds[buildFailed] > 2 })
	n := d.model().Frames
	eventually(t, "the CPU serves", func() bool { s := d.model(); return s.Frames > n+10 && s.Interim })
	if s := d.model(); !strings.Contains(s.Reason, "no space left in "+filepath.Join(c.StateDir, "engines")+": make room there") || s.Errors > 0 {
		t.Errorf("%+v", s)
	}
	close(room)
	eventually(t, "the engine serves", func() bool { s := d.model(); return !s.Interim && s.Reason == "" })
	for _, name := range left(t, filepath.Join(c.StateDir, "engines")) {
		if strings.HasPrefix(name, buildPrefix) || strings.HasSuffix(name, failedSuffix) {
			t.Errorf("left: %s", name)
		}
	}
}

// There is nothing else to serve with, but it may be that somebody makes room.
func TestItStaysUpWhileThereIsNoRoomForTheCPUsEngine(t *testing.T) {
	t.Parallel()
	c := testConfig(t, bars())
	room := make(chan struct{})
	b := &scripted{name: "ort", lanes: 1, building: func(context.Context, int, func(BuildProgress)) error {
		select {
		case <-room:
			return nil
		default:
			return fmt.Errorf("write engine: %w", syscall.ENOSPC)
		}
	}}
	d, _ := begin(t, c, Options{backend: b, pace: quick})
	eventually(t, "builds have failed", func() bool { return d.model().Builds[buildFailed] > 2 })
	if code, body := readyz(t, c); code != http.StatusServiceUnavailable || !strings.Contains(body, "no space left in ") {
		t.Errorf("readyz: %d %s", code, body)
	}
	close(room)
	eventually(t, "it serves", func() bool { s := d.model(); return s.Frames > 0 && s.Reason == "" })
}

// A full disk is noted nowhere.
func TestWaitsGrowWhereNoFailureCanBeNoted(t *testing.T) {
	t.Parallel()
	k := &keeper{u: &unit{pace: usualPace}}
	a := new(attempt)
	within := func(what string, failures int, want time.Duration) {
		t.Helper()
		if wait := time.Until(a.next); a.failures != failures || a.parked || wait > want || wait < want-30*time.Second {
			t.Errorf("%s: %d failures, tried again in %v; want %d and %v", what, a.failures, wait, failures, want)
		}
	}
	for i, want := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute} {
		k.postpone(a, &ErrBackOff{Count: 1, Until: time.Now().Add(time.Minute), cause: syscall.ENOSPC})
		within("not noted", i+1, want)
	}
	k.postpone(a, &ErrBackOff{Count: 7, Until: time.Now().Add(time.Hour), cause: syscall.ENOSPC})
	within("noted by others too", 7, time.Hour)
	k.postpone(a, &ErrBackOff{Count: 2, Until: time.Now().Add(time.Minute)})
	within("not tried now", 2, time.Minute)
}
