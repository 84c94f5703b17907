package daemon

import (
	"context"
	"fmt"
	"os"

	"github.com/sightd/sightd/release"
	"github.com/sightd/sightd/release/inbox"
)

// inboxMode lets a group of OTA agents write, and has what they make belong to
// that group.
const inboxMode = 0o770 | os.ModeSetgid

// newInbox makes the inbox of releases, and its directory where it is missing.
func (d *Daemon) newInbox() *inbox.Inbox {
	dir := d.cfg.Releases.Inbox
	if dir == "" || d.opts.factory != nil {
		return nil
	}
	if err := makeInbox(dir); err != nil {
		d.log.Warn("releases.inbox can't be made: it is watched for", "err", err)
	}
	return inbox.New(inbox.Options{
		Dir: dir, Store: d.store, Policy: d.cfg.Policy(d.opts.Version), Log: d.log,
		Take: d.takeDrop, Base: d.dropInBase,
	})
}

// takeDrop takes a release that came through the inbox.
func (d *Daemon) takeDrop(rel *release.Release) (*release.Entry, error) {
	u, err := d.unit(rel.Spec.Name)
	if err != nil {
		return nil, err
	}
	if err := u.checkEngine(rel); err != nil {
		return nil, err
	}
	return d.take(rel, release.Options{})
}

// dropInBase is the release that serves a model, or that would where nothing can:
// single files go onto it.
func (d *Daemon) dropInBase(model string) (*release.Release, error) {
	if _, err := d.unit(model); err != nil {
		return nil, err
	}
	own := d.factories[model]
	plan, err := d.store.Plan(model, own.number())
	if err != nil {
		return nil, err
	}
	if len(plan.Serve) == 0 {
		return nil, &release.Incomplete{Err: &release.Rejection{Code: release.NotForThisRelease, Err: fmt.Errorf(
			"no release of %s serves yet that a single file could go onto: it waits for one", model)}}
	}
	if e := plan.Serve[0]; !e.Factory {
		return d.store.Get(model, e.ID())
	}
	return own.rel, nil
}

func makeInbox(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil // its rights are its owner's choice
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.Chmod(dir, inboxMode); err != nil {
		return fmt.Errorf("give the inbox its rights: %w", err)
	}
	return nil
}

// watchInbox takes releases from the inbox until ctx ends, and what is under way
// has.
func (d *Daemon) watchInbox(ctx context.Context) (ended <-chan struct{}) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if d.inbox != nil {
			d.inbox.Run(ctx)
		}
	}()
	return done
}
