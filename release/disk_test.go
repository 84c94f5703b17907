package release

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sightd/sightd/internal/durable"
	"github.com/sightd/sightd/internal/testenv"
)

// installOn names the variable by which the test program, started anew in a
// mount namespace of its own, learns what kind of disk to try an install on.
const installOn = "RELEASE_TEST_INSTALL_ON"

func TestStateDirectoryThatCannotTakeARelease(t *testing.T) {
	t.Parallel()
	for disk, want := range map[string]string{
		"full":                "no space left on device; make room there, or set state_dir",
		"fuller than it says": "no space left on device; make room there, or set state_dir",
		"read-only":           "read-only file system; run this as the user that owns it, or set state_dir",
	} {
		t.Run(disk, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			c := exec.Command(os.Args[0], dir, packed(t))
			c.Env = append(os.Environ(), installOn+"="+disk)
			testenv.OwnMounts(c)
			out, err := c.CombinedOutput()
			if strings.Contains(string(out), "no namespace:") || c.ProcessState == nil {
				t.Skipf("no mount namespace to be had here: %v %s", err, out)
			}
			if !strings.Contains(string(out), want) || !strings.Contains(string(out), dir) || !strings.HasSuffix(string(out), "left: []\n") {
				t.Errorf("%v: %s\nwanted %s, and nothing left", err, out, want)
			}
		})
	}
}

// However far a release comes before the disk is full: nothing of it is left, and it
// is no fault of its.
func TestADiskThatIsFullAtAnyStepLeavesNothing(t *testing.T) {
	t.Parallel()
	c := exec.Command(os.Args[0], t.TempDir(), packed(t))
	c.Env = append(os.Environ(), installOn+"=each size")
	testenv.OwnMounts(c)
	out, err := c.CombinedOutput()
	if strings.Contains(string(out), "no namespace:") || c.ProcessState == nil {
		t.Skipf("no mount namespace to be had here: %v %s", err, out)
	}
	if err != nil || !strings.Contains(string(out), "fits\n") {
		t.Errorf("%v: %s", err, out)
	}
}

// installOnEachSize receives and installs the second argument on ever larger file
// systems at the first, which don't tell how small they are, until it fits.
func installOnEachSize() int {
	dir, drop := os.Args[1], os.Args[2]
	root, err := os.OpenRoot(filepath.Dir(drop))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer root.Close()
	for kib, failed := 4, 0; ; kib += 4 {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dk", kib)); err != nil {
			fmt.Println("no namespace:", err)
			return 1
		}
		s := &Store{dir: dir, statfs: roomy, tree: durable.Disk{}}
		r, _, err := s.Receive(context.Background(), root, filepath.Base(drop), Policy{}, nil)
		if err == nil {
			_, err = s.Install(r, Policy{}, Options{})
			r.Close()
		}
		left, _ := os.ReadDir(s.staging())
		entries, listErr := s.List("tiny")
		switch {
		case len(left) > 0 || listErr != nil || s.claims.n != 0:
			fmt.Println(kib, "KiB: left in staging:", left, listErr, "claimed:", s.claims.n)
			return 1
		case err == nil && failed < 3:
			fmt.Println("it fits at once into", kib, "KiB")
			return 1
		case err == nil:
			if _, err := s.Get("tiny", ID{Number: 1}); err != nil {
				fmt.Println(err)
				return 1
			}
			fmt.Println("fits")
			return 0
		case !errors.Is(err, unix.ENOSPC) || CodeOf(err) != "" || len(entries) > 0:
			fmt.Println(kib, "KiB:", err, entries)
			return 1
		}
		failed++
		if err := unix.Unmount(dir, 0); err != nil {
			fmt.Println(err)
			return 1
		}
	}
}

// installOnDisk mounts a small file system at the first argument, installs the
// release of the second there, and prints the error and the files left.
func installOnDisk(disk string) int {
	if disk == "each size" {
		return installOnEachSize()
	}
	dir, path := os.Args[1], os.Args[2]
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8k"); err != nil {
		fmt.Println("no namespace:", err)
		return 1
	}
	if disk == "read-only" {
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			fmt.Println("no namespace:", err)
			return 1
		}
	} else if err := os.WriteFile(filepath.Join(dir, "full"), make([]byte, 4096), 0o644); err != nil {
		fmt.Println("no namespace:", err)
		return 1
	}
	s, err := OpenStore(dir)
	if err == nil {
		if disk == "fuller than it says" { // as where somebody has a quota, or is quicker
			s.statfs = roomy
		}
		var r *Release
		if r, err = s.Open(path); err == nil {
			_, err = s.Install(r, Policy{}, Options{})
		}
	}
	fmt.Println(err)
	var left []string
	filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != "full" {
			left = append(left, path)
		}
		return err
	})
	if entries, _ := os.ReadDir(filepath.Join(dir, "releases")); len(entries) > 0 {
		left = append(left, "releases")
	}
	fmt.Println("left:", left)
	return 0
}
