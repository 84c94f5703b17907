package inbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/release"
)

// The kernel drops what is beyond its queue, and says so: what happened meanwhile
// is found all the same. While Take waits nobody reads the queue, which really overflows.
func TestAnOverflowOfTheKernelsQueueLosesNoDrop(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	if err != nil {
		t.Skipf("how many events the kernel queues isn't known: %v", err)
	}
	most, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	must(t, err)
	if most > 1<<17 {
		t.Skipf("the kernel queues %d events, which takes long to fill", most)
	}
	o := quick()
	o.Rescan = time.Hour // only events and their overflow are left
	o.watcher = newWatcher(false)
	var overflown atomic.Bool
	passed := make(chan error)
	o.watcher.errors = passed
	go func() {
		for err := range o.watcher.fs.Errors {
			if errors.Is(err, fsnotify.ErrEventOverflow) {
				overflown.Store(true)
			}
			select {
			case passed <- err:
			case <-t.Context().Done():
			}
		}
	}()
	var b *box
	taking, on := make(chan struct{}, 10), make(chan struct{})
	o.Take = func(r *release.Release) (*release.Entry, error) {
		taking <- struct{}{}
		<-on
		return b.store.Install(r, release.Policy{}, release.Options{})
	}
	dir := t.TempDir()
	b = &box{dir: filepath.Join(dir, "inbox"), state: t.TempDir()}
	must(t, os.Mkdir(b.dir, 0o755))
	must(t, os.Rename(packed(t, 2), b.path("first")))
	b.start(t, o)
	<-taking
	for n := range most + 10000 { // two names in turns, since of two events alike the kernel keeps one
		write(t, b.path(fmt.Sprint(".x", n%2)), "x")
	}
	must(t, os.Rename(packed(t, 3), b.path("second"))) // of which no event is left
	close(on)
	eventually(t, "the queue overflows", overflown.Load)
	b.wait(t, "second", release.Staged, "")
	// And it is watched as before.
	must(t, os.Rename(packed(t, 4), b.path("third")))
	b.wait(t, "third", release.Staged, "")
}

// The same, simulated: no event comes, but the error that stands for the kernel's.
func TestAnErrorOfTheWatcherHasAllLookedAt(t *testing.T) {
	t.Parallel()
	o := quick()
	o.Rescan = time.Hour
	o.watcher = newWatcher(false)
	lost, failed := make(chan fsnotify.Event), make(chan error)
	o.watcher.events, o.watcher.errors = lost, failed
	b := open(t, o)
	must(t, os.Rename(packed(t, 2), b.path("first")))
	failed <- fsnotify.ErrEventOverflow
	b.wait(t, "first", release.Staged, "")
	must(t, os.Rename(packed(t, 3), b.path("second")))
	failed <- fsnotify.ErrEventOverflow
	b.wait(t, "second", release.Staged, "")
}

// A file system in user space, as that of an NFS client, has no events for changes
// that are made behind it.
func TestWithoutEventsOfTheFileSystemTheScanFindsDrops(t *testing.T) {
	t.Parallel()
	if !testenv.Apart(t) {
		return
	}
	behind := t.TempDir()
	o := quick()
	o.Rescan = 20 * time.Millisecond
	b := &box{dir: filepath.Join(t.TempDir(), "inbox"), state: t.TempDir()}
	must(t, os.Mkdir(b.dir, 0o755))
	root, err := fusefs.NewLoopbackRoot(behind)
	must(t, err)
	server, err := fusefs.Mount(b.dir, root, &fusefs.Options{MountOptions: fuse.MountOptions{DirectMountStrict: true}})
	if err != nil {
		t.Skipf("no FUSE to be had here: %v; by the scan alone drops are delivered in TestADropIsInstalledHoweverItComes", err)
	}
	t.Cleanup(func() {
		if b.stop != nil {
			b.stop()
		}
		must(t, server.Unmount())
		server.Wait()
	})
	b.start(t, o)
	run(t, "cp", "-r", packed(t, 2), filepath.Join(behind, "drop"))
	b.wait(t, "drop", release.Staged, "")
	must(t, os.Mkdir(filepath.Join(behind, "next"), 0o755))
	b.wait(t, "next", release.Received, release.MissingFile)
	dir := packed(t, 3)
	for _, name := range files(t, dir) {
		slowly(t, filepath.Join(dir, name), filepath.Join(behind, "next", name))
	}
	b.wait(t, "next", release.Staged, "")
}

func TestTheInboxIsDeletedAndMadeAgainWhileDropsCome(t *testing.T) {
	t.Parallel()
	o := quick()
	o.Return, o.Rescan = 5*time.Millisecond, 200*time.Millisecond
	b := open(t, o)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range 40 {
			_ = os.RemoveAll(b.dir) // a result may be written there meanwhile
			_ = os.MkdirAll(b.dir, 0o755)
			time.Sleep(3 * time.Millisecond)
		}
	}()
	for n := 2; ; n++ {
		dir := packed(t, n)
		_ = os.Rename(dir, b.path(fmt.Sprint("drop", n)))
		select {
		case <-ended:
			// Whatever became of those, the next is taken.
			must(t, os.Rename(packed(t, n+1), b.path("last")))
			b.wait(t, "last", release.Staged, "")
			if b.log.count("drop rejected") > 0 {
				t.Error("a drop was rejected that was taken away")
			}
			return
		default:
		}
	}
}
