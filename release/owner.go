package release

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// adopt gives what root made in the state directory to whom the directory
// belongs: the daemon, which runs as a user of its own, has to go on with it.
func adopt(stateDir string, paths ...string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(stateDir)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid == 0 {
		return nil
	}
	for _, path := range paths {
		err := filepath.WalkDir(path, func(at string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(at, int(owner.Uid), int(owner.Gid))
		})
		if err != nil {
			return fmt.Errorf("give it to the owner of %s: %w", stateDir, err)
		}
	}
	return nil
}
