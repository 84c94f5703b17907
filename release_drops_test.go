package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/sightd/sightd/daemon"
	"github.com/sightd/sightd/release"
	"github.com/sightd/sightd/release/inbox"
)

func TestReleaseStatusShowsTheDropsOfARunningDaemon(t *testing.T) {
	t.Parallel()
	status := &release.Status{Models: []release.ModelStatus{}}
	running := &daemon.Status{Inbox: &inbox.Status{Error: "open the inbox: permission denied", Drops: []inbox.Result{
		{Drop: "old.tar.zst", Name: "lite0", Number: 2, State: release.Rejected, Code: release.NotNewer, Reason: "release 2 isn't newer\nthan 3"},
		{Drop: "waits", State: release.Received, Reason: "make room"},
		{Drop: "lite0.cache", Name: "lite0", Number: 3, Revision: 7, State: release.Proven, Held: true},
	}}}
	var b strings.Builder
	if err := writeDrops(&b, running); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"inbox: open the inbox: permission denied\n",
		"old.tar.zst  lite0  2        rejected      not-newer: release 2 isn't newer\n",
		"waits                        received      make room\n",
		"lite0.cache  lite0  3.7      proven, held",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("lacks %q:\n%s", want, b.String())
		}
	}
	for want, running := range map[string]*daemon.Status{
		`{"models":[]}`:            nil,
		`{"models":[],"drops":[]}`: {Inbox: &inbox.Status{}},
	} {
		if got, err := json.Marshal(withDrops(status, running)); err != nil || string(got) != want {
			t.Errorf("%s, %v; wanted %s", got, err, want)
		}
	}
}
