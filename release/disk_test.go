package release

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

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

// installOnDisk mounts a small file system at the first argument, installs the
// release of the second there, and prints the error and the files left.
func installOnDisk(disk string) int {
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
