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
		Take: func(rel *release.Release) (*release.Entry, error) { return d.take(rel, release.Options{}) },
	})
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
