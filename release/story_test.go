package release

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func id(n int) ID { return ID{Number: n} }

// story is a store in which releases of the small model live.
type story struct {
	*Store
	t       *testing.T
	factory int
}

func newStory(t *testing.T, factory int, numbers ...int) *story {
	t.Helper()
	s := &story{newStore(t), t, factory}
	for _, n := range numbers {
		s.installs(n)
	}
	return s
}

func (s *story) installs(n int, o ...Options) {
	s.t.Helper()
	if len(o) == 0 {
		o = []Options{{}}
	}
	o[0].Factory = s.factory
	if _, err := s.Install(opened(s.t, numbered(s.t, n)), takesAll, o[0]); err != nil {
		s.t.Fatal(err)
	}
}

func (s *story) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// serves takes a release through proof to probation.
func (s *story) serves(n int) {
	s.t.Helper()
	s.must(s.Built("tiny", id(n)))
	s.must(s.Try("tiny", id(n), "boot 1"))
	s.must(s.Proven("tiny", id(n), 0))
	s.must(s.Serve("tiny", id(n), s.factory, "boot 1"))
}

func (s *story) confirms(n int) {
	s.t.Helper()
	s.serves(n)
	s.must(s.Confirm("tiny", id(n)))
}

// wants compares the plan and what became of each release, as tells has it.
func (s *story) wants(want string) {
	s.t.Helper()
	if diff := cmp.Diff(want, s.tells()); diff != "" {
		s.t.Error(diff)
	}
}

// tells writes the plan and what became of each release as
// "2,factory|4|2 confirmed,4 staged held".
func (s *story) tells() string {
	s.t.Helper()
	plan, err := s.Plan("tiny", s.factory)
	s.must(err)
	all, err := s.List("tiny")
	s.must(err)
	ids := func(list []Entry) string {
		var text []string
		for _, e := range list {
			if e.Factory {
				text = append(text, "factory")
			} else {
				text = append(text, e.ID().String())
			}
		}
		return strings.Join(text, ",")
	}
	var each []string
	for _, e := range all {
		text := fmt.Sprint(e.ID(), " ", e.State)
		if e.Held {
			text += " held"
		}
		if e.Degraded {
			text += " degraded"
		}
		if e.Code != "" {
			text += " " + string(e.Code)
		}
		each = append(each, text)
	}
	return ids(plan.Serve) + "|" + ids(plan.Pending) + "|" + strings.Join(each, ",")
}
