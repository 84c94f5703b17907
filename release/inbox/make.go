package inbox

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
)

// Group is the group of those who may write into the inbox, where the system has
// it.
const Group = "sightd-ota"

// mode lets the group write, and has what its members make belong to it.
const mode = 0o770 | os.ModeSetgid

// Make makes the inbox's directory where it is missing, for its owner and, where the
// system has it, the group. One that is there stays as it is: its rights are its
// owner's choice. It fails also where the directory is made and only its rights
// can't be given, as under a sandbox; the inbox works then, and the error says what to
// do.
func Make(dir, group string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	g, err := user.LookupGroup(group)
	var none user.UnknownGroupError
	switch {
	case errors.As(err, &none):
	case err != nil:
		return wayOut(dir, group, err)
	default:
		gid, err := strconv.Atoi(g.Gid)
		if err == nil {
			err = os.Chown(dir, -1, gid)
		}
		if err != nil {
			_ = os.Chmod(dir, 0o700) // nobody's rather than another group's
			return wayOut(dir, group, err)
		}
	}
	if err := os.Chmod(dir, mode); err != nil {
		return wayOut(dir, group, errors.Join(err, os.Chmod(dir, mode.Perm())))
	}
	return nil
}

func wayOut(dir, group string, err error) error {
	return fmt.Errorf("give the inbox its rights: %w: as root: chgrp %s %s && chmod 2770 %s", err, group, dir, dir)
}
