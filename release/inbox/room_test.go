package inbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/release"
)

// fullDisk has the test program, started anew in a mount namespace of its own,
// receive the drop named by its argument on a full disk.
const fullDisk = "INBOX_TEST_FULL_DISK"

func TestAFullStagingIsNoFaultOfTheDrop(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	c := exec.Command(os.Args[0], packed(t, 2))
	c.Env = append(os.Environ(), fullDisk+"="+state)
	testenv.OwnMounts(c)
	out, err := c.CombinedOutput()
	if strings.Contains(string(out), "no namespace:") || c.ProcessState == nil {
		t.Skipf("no mount namespace to be had here: %v %s", err, out)
	}
	if err != nil || !strings.Contains(string(out), "no space left on device; make room there") {
		t.Errorf("%v: %s", err, out)
	}
}

func receiveOnFullDisk() int {
	state, drop := os.Getenv(fullDisk), os.Args[1]
	if err := unix.Mount("tmpfs", state, "tmpfs", 0, "size=8k"); err != nil {
		fmt.Println("no namespace:", err)
		return 1
	}
	filling := filepath.Join(state, "full")
	if err := os.WriteFile(filling, make([]byte, 4096), 0o644); err != nil {
		fmt.Println("no namespace:", err)
		return 1
	}
	store, err := release.OpenStore(state)
	if err == nil {
		var root *os.Root
		if root, err = os.OpenRoot(filepath.Dir(drop)); err == nil {
			_, _, err = store.Receive(context.Background(), root, filepath.Base(drop), release.Policy{}, nil)
		}
	}
	fmt.Println(err)
	if left, _ := os.ReadDir(filepath.Join(state, "staging")); release.CodeOf(err) != "" || len(left) > 0 {
		fmt.Println("code", release.CodeOf(err), "left:", left)
		return 1
	}
	return 0
}

// A drop waits for room, which somebody makes.
func TestADropWaitsForRoomOnTheDisk(t *testing.T) {
	t.Parallel()
	if !testenv.Apart(t) {
		return
	}
	o := quick()
	o.Rescan = 20 * time.Millisecond
	b := &box{dir: filepath.Join(t.TempDir(), "inbox"), state: filepath.Join(t.TempDir(), "state")}
	must(t, errors.Join(os.Mkdir(b.dir, 0o755), os.Mkdir(b.state, 0o755)))
	must(t, unix.Mount("tmpfs", b.state, "tmpfs", 0, "size=1m"))
	filling := testenv.Fill(t, b.state)
	must(t, os.Truncate(filling, 850<<10)) // what is left is kept for the rest
	must(t, os.Rename(packed(t, 2), b.path("drop")))
	b.start(t, o)
	t.Cleanup(func() { b.stop(); _ = unix.Unmount(b.state, unix.MNT_DETACH) })
	r := b.wait(t, "drop", release.Received, "")
	eventually(t, "why it waits is said", func() bool { r = b.result(t, "drop"); return strings.Contains(r.Reason, "make room there") })
	before, err := os.Stat(b.path("drop" + ResultSuffix))
	must(t, err)
	time.Sleep(5 * o.Rescan)
	if after, err := os.Stat(b.path("drop" + ResultSuffix)); err != nil || !os.SameFile(before, after) || b.log.count("drop waits") != 1 {
		t.Errorf("it is said again and again: %v", err)
	}
	must(t, os.Remove(filling))
	b.wait(t, "drop", release.Staged, "")
}
