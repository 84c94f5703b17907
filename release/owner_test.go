package release

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestWhatRootInstallsBelongsToTheDaemon(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	const user = 12345
	dir := t.TempDir()
	if err := os.Chown(dir, user, user); err != nil {
		t.Fatal(err)
	}
	l, err := TakeLock(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := OpenStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Open(numbered(t, 2))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Install(r, takesAll, Options{}); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Sys().(*syscall.Stat_t).Uid != user {
			t.Errorf("%s belongs to %d", path, info.Sys().(*syscall.Stat_t).Uid)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
