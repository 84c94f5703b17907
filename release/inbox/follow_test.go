package inbox

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sightd/sightd/release"
)

// tell takes an entry from the store, as who serves the model does.
func (b *box) tell(t *testing.T, name string, id release.ID) {
	t.Helper()
	entries, err := b.store.List(name)
	must(t, err)
	for _, e := range entries {
		if e.ID() == id {
			b.Tell(name, e)
		}
	}
}

func TestAResultFollowsWhatBecomesOfTheRelease(t *testing.T) {
	t.Parallel()
	b := open(t, quick())
	two := release.ID{Number: 2}
	must(t, os.Rename(packed(t, 2), b.path("drop")))
	name := b.wait(t, "drop", release.Staged, "").Name
	// Another release with the number is none that it came by.
	must(t, os.Rename(packed(t, 2, "mean: [127.5]", "mean: [127]"), b.path("other")))
	b.wait(t, "other", release.Rejected, release.NotNewer)
	for _, step := range []struct {
		state release.State
		code  release.Code
		do    func() error
	}{
		{release.Built, "", func() error { return b.store.Built(name, two) }},
		{release.Proven, "", func() error { return b.store.Proven(name, two, 0) }},
		{release.Serving, "", func() error { return b.store.Serve(name, two, 1, "this boot") }},
		{release.Confirmed, "", func() error { return b.store.Confirm(name, two) }},
		{release.RolledBack, release.ByHand, func() error {
			_, err := b.store.RollBack(name, two, 1, release.ByHand, "somebody asked")
			return err
		}},
		{release.Staged, "", func() error { return b.store.Activate(name, two) }},
		{release.Rejected, release.Crashed, func() error { return b.store.Reject(name, two, release.Crashed, "it crashed") }},
		{release.Staged, "", func() error { return b.store.Activate(name, two) }},
		{release.Proven, "", func() error { return b.store.Proven(name, two, 0) }},
		{release.Serving, "", func() error { return b.store.Serve(name, two, 1, "this boot") }},
		{release.Confirmed, "", func() error { return b.store.Confirm(name, two) }},
	} {
		must(t, step.do())
		b.tell(t, name, two)
		b.wait(t, "drop", step.state, step.code)
	}
	b.wait(t, "other", release.Rejected, release.NotNewer)
	// Each end counts once, however often the release came to it.
	s := b.Status()
	if s.Staged != 1 || s.Confirmed != 1 || s.RolledBack[release.ByHand] != 1 || s.Rejected[release.Crashed] != 1 || s.Rejected[release.NotNewer] != 1 {
		t.Errorf("counted %+v", s)
	}
	if b.log.count("drop installed") != 1 || b.log.count("drop rejected") != 1 {
		t.Error("what who serves the model says was said once more")
	}
}

func TestAHeldReleaseIsSaidToBe(t *testing.T) {
	t.Parallel()
	o := quick()
	var b *box
	ready := make(chan struct{})
	o.Take = func(r *release.Release) (*release.Entry, error) {
		<-ready
		return b.store.Install(r, release.Policy{}, release.Options{Hold: true})
	}
	b = open(t, o)
	close(ready)
	must(t, os.Rename(packed(t, 2), b.path("drop")))
	r := b.wait(t, "drop", release.Staged, "")
	if !r.Held {
		t.Errorf("result %+v", r)
	}
	must(t, b.store.Activate(r.Name, release.ID{Number: 2}))
	b.tell(t, r.Name, release.ID{Number: 2})
	eventually(t, "it is held no more", func() bool { return !b.result(t, "drop").Held })
}

func TestWhatNobodyToldIsFoundInTheStore(t *testing.T) {
	t.Parallel()
	o := quick()
	o.Rescan = 20 * time.Millisecond
	b := open(t, o)
	must(t, os.Rename(packed(t, 2), b.path("drop")))
	name := b.wait(t, "drop", release.Staged, "").Name
	must(t, b.store.Proven(name, release.ID{Number: 2}, 0))
	b.wait(t, "drop", release.Proven, "")
	b.stop()
	must(t, b.store.Serve(name, release.ID{Number: 2}, 0, "this boot"))
	must(t, b.store.Confirm(name, release.ID{Number: 2}))
	b.start(t, o)
	b.wait(t, "drop", release.Confirmed, "")
	if s := b.Status(); s.Staged+s.Confirmed > 0 {
		t.Errorf("what happened before this start was counted: %+v", s)
	}
}

// A daemon tells what it does while it holds locks of its own.
func TestTellNeverWaits(t *testing.T) {
	t.Parallel()
	i := New(Options{Dir: t.TempDir()}) // which nobody runs
	for n := range 3 * maxDrops {
		i.Tell("lite", release.Entry{Number: n + 1})
	}
	if len(i.told) > maxDrops {
		t.Errorf("%d entries are kept", len(i.told))
	}
}

func TestNewsComeWhenTheStatusHasChanged(t *testing.T) {
	t.Parallel()
	b := open(t, quick())
	must(t, os.Rename(packed(t, 2), b.path("drop")))
	deadline, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		select {
		case <-b.News():
		case <-deadline.Done():
			t.Fatal("no news of it")
		}
		if drops := b.Status().Latest(20); len(drops) == 1 && drops[0].State == release.Staged {
			break
		}
	}
	s := Status{Drops: []Result{{Drop: "a", Since: time.Unix(1, 0)}, {Drop: "b", Since: time.Unix(3, 0)}, {Drop: "c", Since: time.Unix(2, 0)}}}
	if l := s.Latest(2); len(l) != 2 || l[0].Drop != "b" || l[1].Drop != "c" {
		t.Errorf("the latest are %+v", l)
	}
}

// The clock is set by whom it pleases; what is due goes by the time that passes.
func TestAClockThatIsSetBackHangsNothing(t *testing.T) {
	t.Parallel()
	o := quick()
	o.Rescan = 20 * time.Millisecond
	var b *box
	back := make(chan struct{})
	o.wall = func() time.Time {
		select {
		case <-back:
			return time.Now().AddDate(-1, 0, 0)
		default:
			return time.Now()
		}
	}
	b = open(t, o)
	must(t, os.Rename(packed(t, 2), b.path("before")))
	b.wait(t, "before", release.Staged, "")
	dir := packed(t, 3)
	manifest := read(t, filepath.Join(dir, release.ManifestName))
	write(t, filepath.Join(dir, release.ManifestName), manifest[:20])
	must(t, os.Rename(dir, b.path("half")))
	close(back)
	must(t, os.Rename(packed(t, 4), b.path("after")))
	if r := b.wait(t, "after", release.Staged, ""); time.Since(r.Since) < 300*24*time.Hour {
		t.Errorf("it came at %v", r.Since)
	}
	b.wait(t, "half", release.Rejected, release.BadManifest) // when nothing has happened to it for a while
	write(t, b.path("half", release.ManifestName), manifest)
	b.wait(t, "half", release.Staged, "")
}
