package release

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sightd/sightd/internal/durable"
	"github.com/sightd/sightd/internal/durable/durabletest"
)

// A disk that has no room at any write of what is to be noted: the store is as it was, the
// error says so, and the same again, once there is room, does it.
func TestWhatAFullDiskKeepsFromBeingNotedIsDoneWhenThereIsRoom(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do   func(*story) error
		want string
	}{
		"built":    {func(s *story) error { return s.Built("tiny", id(4)) }, "3,2,factory|4|2 confirmed,3 serving,4 built"},
		"proven":   {func(s *story) error { return s.Proven("tiny", id(4), 0) }, "3,2,factory|4|2 confirmed,3 serving,4 proven"},
		"serve":    {func(s *story) error { return s.Serve("tiny", id(4), 1, "boot 1") }, "4,2,factory||2 confirmed,3 proven held superseded,4 serving"},
		"confirm":  {func(s *story) error { return s.Confirm("tiny", id(3)) }, "3,2,factory|4|2 confirmed,3 confirmed,4 staged"},
		"hold":     {func(s *story) error { return s.Hold("tiny", id(4), "manual") }, "3,2,factory|4|2 confirmed,3 serving,4 staged held"},
		"remove":   {func(s *story) error { return s.Remove("tiny", id(4), 1) }, "3,2,factory||2 confirmed,3 serving,4 rejected removed"},
		"activate": {func(s *story) error { return s.Activate("tiny", id(2)) }, "3,2,factory|4,2|2 confirmed,3 serving,4 staged"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStory(t, 1, 2)
			s.confirms(2)
			s.installs(3)
			s.serves(3)
			s.installs(4)
			before := s.tells()
			tree := durabletest.NewTree(t, s.dir)
			s.tree = tree
			failures := 0
			for {
				n := failures
				tree.Fail = func(op, _ string) error {
					if op != "create" && op != "write" && op != "mkdir" && op != "sync" {
						return nil // for which there is room always
					}
					if n--; n == -1 {
						return syscall.ENOSPC
					}
					return nil
				}
				err := c.do(s)
				if err == nil {
					break
				}
				failures++
				if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "make room there") {
					t.Error(err)
				}
				if name != "remove" { // whose files are gone before that is noted
					s.wants(before)
				}
				if left := leftBehind(t, s.dir); len(left) > 0 {
					t.Error("left behind:", left)
				}
			}
			s.wants(c.want)
			if failures < 3 {
				t.Errorf("only %d writes", failures)
			}
		})
	}
}

// leftBehind are the temporary files in a state directory.
func leftBehind(t *testing.T, dir string) (left []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && (durable.IsTemp(path) || filepath.Base(filepath.Dir(path)) == "staging") {
			left = append(left, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return left
}
