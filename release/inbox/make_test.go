package inbox

import (
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/release"
)

func TestTheInboxIsMadeForItsGroup(t *testing.T) {
	t.Parallel()
	own, err := user.LookupGroupId(strconv.Itoa(os.Getgid()))
	must(t, err)
	for _, group := range []string{own.Name, "no-such-group"} {
		dir := filepath.Join(t.TempDir(), "a", "inbox")
		must(t, Make(dir, group))
		info, err := os.Stat(dir)
		must(t, err)
		if info.Mode() != os.ModeDir|mode {
			t.Errorf("mode %v, wanted 2770", info.Mode())
		}
		if gid := info.Sys().(*syscall.Stat_t).Gid; int(gid) != os.Getgid() {
			t.Errorf("group %d, wanted %d", gid, os.Getgid())
		}
		// Whoever sets other rights has reasons.
		must(t, os.Chmod(dir, 0o755))
		must(t, Make(dir, group))
		if info, err = os.Stat(dir); err != nil || info.Mode() != os.ModeDir|0o755 {
			t.Errorf("became %v, %v", info.Mode(), err)
		}
	}
}

func TestAnInboxWhoseGroupMayNotBeSetIsTheOwnersAlone(t *testing.T) {
	t.Parallel()
	if !testenv.Unprivileged(t) {
		return
	}
	other := "daemon"
	if g, err := user.LookupGroup(other); err != nil || g.Gid == strconv.Itoa(os.Getgid()) {
		t.Skipf("no group %s to which a directory may not be given: %v", other, err)
	}
	dir := filepath.Join(t.TempDir(), "inbox")
	err := Make(dir, other)
	info, statErr := os.Stat(dir)
	must(t, statErr)
	if err == nil || !strings.Contains(err.Error(), "as root: chgrp daemon "+dir) || info.Mode() != os.ModeDir|0o700 {
		t.Errorf("%v, mode %v", err, info.Mode())
	}
	if err := Make(filepath.Join(dir, "a"), "no-such-group"); err != nil {
		t.Error(err)
	}
}

func TestAnInboxWithoutPermissionIsTroubleOfTheDevice(t *testing.T) {
	t.Parallel()
	if !testenv.Unprivileged(t) {
		return
	}
	o := quick()
	o.Rescan = 20 * time.Millisecond
	b := open(t, o)
	for _, rights := range []os.FileMode{0, 0o300, 0o400} { // nothing; entered, not listed; listed, not entered
		must(t, os.Chmod(b.dir, rights))
		eventually(t, "that it can't be read is told", func() bool { return strings.Contains(b.Status().Error, "permission denied") })
		must(t, os.Chmod(b.dir, 0o700))
		eventually(t, "that it can again is told", func() bool { return b.Status().Error == "" })
	}
	must(t, os.Rename(packed(t, 2), b.path("drop")))
	b.wait(t, "drop", release.Staged, "")

	dir := packed(t, 3)
	must(t, os.Chmod(filepath.Join(dir, release.ManifestName), 0))
	must(t, os.Rename(dir, b.path("locked")))
	if r := b.wait(t, "locked", release.Received, release.MissingFile); !strings.Contains(r.Reason, "permission denied: give it to the inbox's group") {
		t.Errorf("reason %q", r.Reason)
	}
	must(t, os.Chmod(b.path("locked", release.ManifestName), 0o600))
	b.wait(t, "locked", release.Staged, "")

	must(t, os.Rename(packed(t, 4), b.path("unwritable")))
	must(t, os.Chmod(b.dir, 0o500))
	eventually(t, "it is installed all the same", func() bool { return b.Status().Staged == 3 })
	must(t, os.Chmod(b.dir, 0o700))
	b.wait(t, "unwritable", release.Staged, "")
}
