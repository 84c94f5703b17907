package release

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAReleaseServesOnceItIsProvenAndIsConfirmedAfterProbation(t *testing.T) {
	t.Parallel()
	s := newStory(t, 1, 2)
	s.wants("factory|2|2 staged")
	s.must(s.Built("tiny", id(2)))
	s.wants("factory|2|2 built")
	s.must(s.Proven("tiny", id(2), 12.5))
	s.wants("factory|2|2 proven")
	s.must(s.Serve("tiny", id(2), 1, "boot"))
	s.wants("2,factory||2 serving")
	s.must(s.Confirm("tiny", id(2)))
	s.wants("2,factory||2 confirmed")
	if err := s.Built("tiny", id(7)); err == nil || err.Error() != "release 7 of tiny is not installed" {
		t.Error(err)
	}
}

func TestARollBackGoesToTheLastConfirmedRelease(t *testing.T) {
	t.Parallel()
	s := newStory(t, 1, 2)
	s.confirms(2)
	s.installs(3)
	s.serves(3)
	to, err := s.RollBack("tiny", id(3), 1, "failed-inferences", "10 frames in a row")
	s.must(err)
	if to.ID() != id(2) {
		t.Errorf("it went to %v", to)
	}
	s.wants("2,factory||2 confirmed,3 rolled back failed-inferences")
	to, err = s.RollBack("tiny", id(2), 1, ByHand, "asked for")
	s.must(err)
	if !to.Factory || to.Number != 1 {
		t.Errorf("it went to %v", to)
	}
	s.wants("factory||2 rolled back by-hand,3 rolled back failed-inferences")
}

func TestWhatWasRolledBackIsTriedAgainOnlyWhereSomebodyAsks(t *testing.T) {
	t.Parallel()
	s := newStory(t, 1, 2)
	s.serves(2)
	_, err := s.RollBack("tiny", id(2), 1, Crashed, "it crashed")
	s.must(err)
	var known *Installed
	if _, err := s.Install(opened(t, numbered(t, 2)), takesAll, Options{}); !errors.As(err, &known) || known.Entry.State != RolledBack {
		t.Error("installed again:", err)
	}
	s.must(s.Activate("tiny", id(2)))
	s.wants("factory|2|2 staged")
	s.must(s.Reject("tiny", id(2), "proof-failed", "too few are right"))
	s.wants("factory||2 rejected proof-failed")
}

func TestWithNothingToGoBackToAReleaseStaysDegraded(t *testing.T) {
	t.Parallel()
	s := newStory(t, 0, 2)
	s.serves(2)
	_, err := s.RollBack("tiny", id(2), 0, Crashed, "it crashed")
	var none *NoWayBack
	if !errors.As(err, &none) {
		t.Error(err)
	}
	s.wants("2||2 serving degraded crashed")
	s.must(s.Confirm("tiny", id(2)))
	s.wants("2||2 confirmed")
}

func TestABadReleaseDoesNotBlockLaterOnes(t *testing.T) {
	t.Parallel()
	s := newStory(t, 0, 2)
	s.confirms(2)
	s.installs(MaxNumber)
	s.must(s.Reject("tiny", id(MaxNumber), "proof-failed", ""))
	s.installs(3)
	s.wants(fmt.Sprintf("2|3|2 confirmed,3 staged,%d rejected proof-failed", MaxNumber))
}

func TestALowerNumberNeedsAllowDowngrade(t *testing.T) {
	t.Parallel()
	s := newStory(t, 4, 5)
	s.confirms(5)
	_, err := s.Install(opened(t, numbered(t, 3)), takesAll, Options{Factory: 4})
	wantRejected(t, err, NotNewer, "or allow_downgrade: true")
	_, err = s.Install(opened(t, packed(t, "release: 1", "release: 3\nallow_downgrade: true")), takesAll, Options{Factory: 4})
	s.must(err)
	s.wants("5,factory|3|3 staged,5 confirmed")
	s.serves(3)
	s.wants("3,5,factory||3 serving,5 confirmed")
	s.must(s.Confirm("tiny", id(3)))
	s.wants("3,5,factory||3 confirmed,5 confirmed")
}

func TestANewerFactoryReleaseComesBeforeWhatIsInstalled(t *testing.T) {
	t.Parallel()
	s := newStory(t, 1, 2)
	s.confirms(2)
	s.installs(3)
	s.serves(3)
	s.factory = 4
	s.wants("factory||2 confirmed,3 serving")
	_, err := s.Recover("tiny", 4, "boot 2")
	s.must(err)
	s.wants("factory||2 confirmed,3 proven held superseded")
}

func TestWhatANewerReleaseHasReplacedIsHeld(t *testing.T) {
	t.Parallel()
	s := newStory(t, 1, 2, 3)
	s.installs(4, Options{Hold: true})
	s.serves(2)
	s.wants("2,factory|4,3|2 serving,3 staged,4 staged held")
	s.serves(3)
	s.wants("3,factory|4|2 proven held superseded,3 serving,4 staged held")
	s.must(s.Activate("tiny", id(4)))
	s.serves(4)
	s.must(s.Activate("tiny", id(2)))
	s.wants("4,factory|2|2 proven,3 proven held superseded,4 serving")
}

func TestACrashOnProbationRollsBackAndAStopDoesNot(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		rest bool
		boot string
		want string
	}{
		"a crash":  {false, "boot 1", "factory||2 rolled back crashed"},
		"a stop":   {true, "boot 1", "2,factory||2 serving"},
		"a reboot": {false, "boot 2", "2,factory||2 serving"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStory(t, 1, 2)
			s.serves(2)
			if c.rest {
				s.must(s.Rest("tiny", 17))
			}
			_, err := s.Recover("tiny", 1, c.boot)
			s.must(err)
			s.wants(c.want)
			if e, _ := s.List("tiny"); c.rest && e[0].Served != 17 {
				t.Errorf("%v s of its probation are over, want 17", e[0].Served)
			}
		})
	}
}

func TestAReleaseIsRejectedAtTheThirdCrashOfItsProof(t *testing.T) {
	t.Parallel()
	s := newStory(t, 1, 2)
	for n := 1; n <= 3; n++ {
		s.wants("factory|2|2 staged")
		s.must(s.Try("tiny", id(2), "boot 1"))
		_, err := s.Recover("tiny", 1, "boot 1")
		s.must(err)
	}
	s.wants("factory||2 rejected crashed")
}

func TestUselessReleasesArePrunedTheOldestFirst(t *testing.T) {
	t.Parallel()
	s := newStory(t, 1)
	for n := 2; n <= 6; n++ {
		s.installs(n)
		s.confirms(n)
	}
	s.installs(7)
	s.serves(7)
	s.installs(8, Options{Hold: true})
	pruned, err := s.Prune("tiny", 2, 1)
	s.must(err)
	if diff := cmp.Diff("[3 2]", fmt.Sprint(pruned)); diff != "" {
		t.Error(diff)
	}
	left, err := os.ReadDir(s.dir + "/releases/tiny")
	s.must(err)
	if len(left) != 6 { // 4 to 8, and state.json
		t.Error(left)
	}
	// What became of them is known, so that a drop that still lies there isn't new.
	var known *Installed
	if _, err := s.Install(opened(t, numbered(t, 2)), takesAll, Options{}); !errors.As(err, &known) {
		t.Error(err)
	}
	if _, err := s.Install(opened(t, numbered(t, 2)), takesAll, Options{Asked: true}); err != nil {
		t.Error(err)
	}
}

func TestWhatIsNeededIsNotRemoved(t *testing.T) {
	t.Parallel()
	s := newStory(t, 1, 2, 3, 4)
	s.confirms(2)
	s.serves(3)
	for n, want := range map[int]string{2: "is the last confirmed one", 3: "serves: roll it back before", 9: "is not installed"} {
		if err := s.Remove("tiny", id(n), 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d: %v, want %q", n, err, want)
		}
	}
	s.must(s.Remove("tiny", id(4), 1))
	s.wants("3,2,factory||2 confirmed,3 serving,4 rejected removed")
	if left, _ := os.ReadDir(s.staging()); len(left) > 0 {
		t.Error("staging holds", left)
	}
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	t.Parallel()
	var m modelState
	for n := 1; n <= maxEntries+50; n++ {
		m.put(Entry{Number: n, State: Confirmed})
		m.Confirmed = append(m.Confirmed, id(n))
	}
	m.Serving = id(5)
	m.forget(func(there ID) bool { return there.Number == 7 })
	if len(m.Releases) != maxEntries || m.find(id(5)) == nil || m.find(id(7)) == nil || m.find(id(1)) != nil {
		t.Errorf("%d entries", len(m.Releases))
	}
	if len(m.Confirmed) != maxConfirmed || m.Confirmed[maxConfirmed-1] != id(maxEntries+50) {
		t.Error(m.Confirmed)
	}
}

func TestStatusAsProgramsReadIt(t *testing.T) {
	t.Parallel()
	s := newStory(t, 1, 2, 3)
	s.confirms(2)
	s.must(s.Reject("tiny", id(3), CacheDoesNotFit, "too little is named"))
	status, err := s.Status(map[string]int{"tiny": 1, "lite0": 0})
	s.must(err)
	for i := range status.Models[1].Releases {
		e := &status.Models[1].Releases[i]
		if e.Manifest == "" != e.Factory || e.Since.IsZero() != e.Factory {
			t.Errorf("%+v", e)
		}
		e.Since, e.Manifest = status.Models[1].Releases[0].Since, ""
	}
	b, err := json.Marshal(status)
	s.must(err)
	want := `{"models":[{"name":"lite0","serving":0,"confirmed":0,"releases":[]},{"name":"tiny","serving":2,"confirmed":2,"releases":[` +
		`{"number":1,"state":"confirmed","code":"","reason":"","factory":true},` +
		`{"number":2,"state":"confirmed","code":"","reason":"","over":1},` +
		`{"number":3,"state":"rejected","code":"cache-does-not-fit","reason":"too little is named"}]}]}`
	if diff := cmp.Diff(want, string(b)); diff != "" {
		t.Error(diff)
	}
}

func TestIDs(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]ID{"7": {7, 0}, "7.3": {7, 3}, "2147483647.9007199254740991": {MaxNumber, MaxRevision}} {
		if got, err := ParseID(text); err != nil || got != want || got.String() != text {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "0", "07", "7.", "7.0", "-1", "+1", "2147483648", "7.9007199254740992", "7.3.1", "../7", " 7"} {
		if got, err := ParseID(text); err == nil {
			t.Errorf("%q became %v", text, got)
		}
	}
}

func TestAConfirmedReleaseThatIsAskedForNeedsNoProbation(t *testing.T) {
	t.Parallel()
	s := newStory(t, 1, 2)
	s.confirms(2)
	s.installs(3)
	s.confirms(3)
	s.must(s.Activate("tiny", id(2)))
	s.wants("3,2,factory|2|2 confirmed,3 confirmed")
	s.must(s.Proven("tiny", id(2), 0))
	s.must(s.Serve("tiny", id(2), 1, "boot"))
	s.wants("2,3,factory||2 confirmed,3 confirmed")
}

func TestARemovedReleaseMayBeInstalledAgainWhereSomebodyAsks(t *testing.T) {
	t.Parallel()
	s := newStory(t, 1, 2)
	s.confirms(2)
	s.installs(3)
	s.must(s.Proven("tiny", id(3), 0))
	s.must(s.Remove("tiny", id(3), 1))
	var known *Installed
	if _, err := s.Install(opened(t, numbered(t, 3)), takesAll, Options{}); !errors.As(err, &known) {
		t.Error("a drop that still lies there comes again:", err)
	}
	if _, err := s.Install(opened(t, numbered(t, 3)), takesAll, Options{Asked: true}); err != nil {
		t.Error(err)
	}
	s.wants("2,factory|3|2 confirmed,3 staged")
}

func TestWhatIsRemovedWhileItIsProvenDoesNotServe(t *testing.T) {
	t.Parallel()
	s := newStory(t, 1, 2)
	s.must(s.Remove("tiny", id(2), 1))
	if err := s.Proven("tiny", id(2), 0); err == nil || !strings.Contains(err.Error(), "is rejected (removed)") {
		t.Error(err)
	}
	if err := s.Serve("tiny", id(2), 1, "boot"); err == nil {
		t.Error("it serves")
	}
	s.wants("factory||2 rejected removed")
}

func TestRejectedReleasesPushNoneOutThatARollBackGoesTo(t *testing.T) {
	t.Parallel()
	s := newStory(t, 1, 2)
	s.confirms(2)
	s.installs(3)
	s.confirms(3)
	for n := 4; n < 8; n++ {
		s.installs(n)
		s.must(s.Reject("tiny", id(n), "proof-failed", ""))
	}
	_, err := s.Prune("tiny", 0, 1)
	s.must(err)
	to, err := s.RollBack("tiny", id(3), 1, ByHand, "")
	s.must(err)
	if to.ID() != id(2) {
		t.Errorf("it went to %v", to)
	}
}

func TestACrashIsTheFaultOfTheReleaseOfWhichLessIsKnown(t *testing.T) {
	t.Parallel()
	s := newStory(t, 1, 2)
	s.serves(2)
	s.installs(3)
	s.must(s.Try("tiny", id(3), "boot 1"))
	_, err := s.Recover("tiny", 1, "boot 1")
	s.must(err)
	s.wants("2,factory|3|2 serving,3 staged")
	if all, _ := s.List("tiny"); all[1].Crashes != 1 {
		t.Errorf("%+v", all[1])
	}
}

func TestAConfirmedReleaseThatIsAskedForAndCrashesIsRejectedInTheEnd(t *testing.T) {
	t.Parallel()
	s := newStory(t, 1, 2)
	s.confirms(2)
	s.installs(3)
	s.confirms(3)
	s.must(s.Activate("tiny", id(2)))
	for range mostCrashes {
		s.must(s.Try("tiny", id(2), "boot 1"))
		_, err := s.Recover("tiny", 1, "boot 1")
		s.must(err)
	}
	s.wants("3,factory||2 rejected crashed,3 confirmed")
}
