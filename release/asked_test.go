package release

import (
	"testing"
)

func TestAConfirmedReleaseThatIsAskedForIsNotPruned(t *testing.T) {
	t.Parallel()
	s := newStory(t, 1)
	for n := 2; n <= 5; n++ {
		s.installs(n)
		s.confirms(n)
	}
	s.must(s.Activate("tiny", id(2)))
	pruned, err := s.Prune("tiny", 0, 1)
	s.must(err)
	if len(pruned) != 1 || pruned[0] != id(3) { // 5 serves, and a roll-back goes to 4
		t.Errorf("pruned: %v", pruned)
	}
	s.wants("5,4,2,factory|2|2 confirmed,3 confirmed,4 confirmed,5 confirmed")
}
