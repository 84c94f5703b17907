package release

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/sightd/sightd/internal/durable/durabletest"
)

// What is bad isn't to serve on since a full disk can't take the note of it: the decision
// holds at once, and is written when there is room.
func TestDecisionsHoldOnAFullDiskAndAreWrittenLater(t *testing.T) {
	t.Parallel()
	const before = "3,2,factory|4|2 confirmed,3 serving,4 staged"
	for name, c := range map[string]struct {
		do   func(*story) error
		want string
	}{
		"reject": {func(s *story) error { return s.Reject("tiny", id(4), ProofFailed, "") }, "3,2,factory||2 confirmed,3 serving,4 rejected proof-failed"},
		"roll back": {func(s *story) error {
			to, err := s.RollBack("tiny", id(3), 1, "failed-inferences", "why")
			if to.ID() != id(2) {
				t.Errorf("it went to %v", to)
			}
			return err
		}, "2,factory|4|2 confirmed,3 rolled back failed-inferences,4 staged"},
		"recover": {func(s *story) error {
			changed, err := s.Recover("tiny", 1, "boot 1")
			if len(changed) != 1 || changed[0].State != RolledBack {
				t.Errorf("changed: %v", changed)
			}
			return err
		}, "2,factory|4|2 confirmed,3 rolled back crashed,4 staged"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStory(t, 1, 2)
			s.confirms(2)
			s.installs(3)
			s.serves(3)
			s.installs(4)
			tree := durabletest.NewTree(t, s.dir)
			s.tree = tree
			tree.Fail = func(op, _ string) error {
				if op == "create" {
					return syscall.ENOSPC
				}
				return nil
			}
			err := c.do(s)
			var unnoted *Unnoted
			if !errors.As(err, &unnoted) || !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "make room there") {
				t.Error(err)
			}
			s.wants(c.want)
			other, err := OpenStore(s.dir) // as the next process would find it
			s.must(err)
			(&story{other, t, 1}).wants(before)
			if _, err := s.Flush("tiny"); !errors.Is(err, syscall.ENOSPC) {
				t.Error(err)
			}
			if err := s.Built("tiny", id(2)); err != nil { // nothing changes by it
				t.Error(err)
			}
			tree.Fail = nil
			if written, err := s.Flush("tiny"); !written || err != nil {
				t.Error(written, err)
			}
			if written, err := s.Flush("tiny"); written || err != nil {
				t.Error(written, err)
			}
			(&story{other, t, 1}).wants(c.want)
			if left := leftBehind(t, s.dir); len(left) > 0 {
				t.Error("left behind:", left)
			}
		})
	}
}

func damage(t *testing.T, s *story, n int) {
	t.Helper()
	if err := os.Truncate(filepath.Join(s.path("tiny", id(n)), "model.onnx"), 10); err != nil {
		t.Fatal(err)
	}
}

func TestARollBackPassesOverWhatIsDamaged(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		factory int
		damaged []int
		to      string
		want    string
	}{
		"an older one is whole":  {0, []int{3}, "2", "2,3||2 confirmed,3 confirmed,4 rolled back crashed"},
		"the factory release is": {1, []int{2, 3}, "1", "3,2,factory||2 confirmed,3 confirmed,4 rolled back crashed"},
		"there is none any more": {0, []int{2, 3}, "0", "4,3,2||2 confirmed,3 confirmed,4 serving degraded crashed"},
		"whole ones are gone to": {0, nil, "3", "3,2||2 confirmed,3 confirmed,4 rolled back crashed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStory(t, c.factory)
			for n := 2; n <= 3; n++ {
				s.installs(n)
				s.confirms(n)
			}
			s.installs(4)
			s.serves(4)
			for _, n := range c.damaged {
				damage(t, s, n)
			}
			to, err := s.RollBack("tiny", id(4), c.factory, Crashed, "why")
			if to.ID().String() != c.to {
				t.Errorf("it went to %v", to)
			}
			var none *NoWayBack
			if (c.to == "0") != errors.As(err, &none) {
				t.Error(err)
			}
			s.wants(c.want)
			all, _ := s.List("tiny")
			if reason := all[2].Reason; strings.Contains(reason, "release 3 can't be gone back to: ") != (len(c.damaged) > 0) {
				t.Errorf("reason %q", reason)
			}
		})
	}
}

// Where there is none to go back to and no room to note that, both are said.
func TestNoWayBackOnAFullDisk(t *testing.T) {
	t.Parallel()
	s := newStory(t, 0)
	s.installs(2)
	s.serves(2)
	tree := durabletest.NewTree(t, s.dir)
	s.tree = tree
	tree.Fail = func(op, _ string) error {
		if op == "create" {
			return syscall.ENOSPC
		}
		return nil
	}
	_, err := s.RollBack("tiny", id(2), 0, Crashed, "why")
	var unnoted *Unnoted
	var none *NoWayBack
	if !errors.As(err, &unnoted) || !errors.As(err, &none) {
		t.Errorf("error %v, want what couldn't be noted and that it stays", err)
	}
	if all, _ := s.List("tiny"); !all[0].Degraded || all[0].Code != Crashed {
		t.Errorf("%+v", all)
	}
	if _, err := s.RollBack("tiny", id(2), 0, ByHand, ""); !errors.As(err, &none) || errors.As(err, &unnoted) {
		t.Errorf("by hand: %v, want that it stays alone: there is nothing to note", err)
	}
}

// What a roll-back may go to is read without the store's lock, so it may find out that
// something is to be read first: nothing has changed then.
func TestARollBackThatHasSomethingToReadFirstChangesNothing(t *testing.T) {
	t.Parallel()
	s := newStory(t, 1)
	s.installs(2)
	s.confirms(2)
	s.installs(3)
	s.serves(3)
	m, err := s.read("tiny")
	if err != nil {
		t.Fatal(err)
	}
	before := *m.find(id(3))
	_, back, _, err := s.rollBack("tiny", &m, m.find(id(3)), 1, Crashed, "why", func(i ID) error { return &toRead{i} })
	var next *toRead
	if back || !errors.As(err, &next) || next.id != id(2) || !reflect.DeepEqual(*m.find(id(3)), before) || m.Serving != id(3) {
		t.Errorf("%v, %v: %+v", back, err, m)
	}
}
