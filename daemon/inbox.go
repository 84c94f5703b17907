package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"github.com/sightd/sightd/mqtt"
	"github.com/sightd/sightd/release"
	"github.com/sightd/sightd/release/inbox"
)

// newInbox makes the inbox of releases, and its directory where it is missing.
func (d *Daemon) newInbox() *inbox.Inbox {
	dir := d.cfg.Releases.Inbox
	if dir == "" || d.opts.factory != nil {
		return nil
	}
	if err := inbox.Make(dir, inbox.Group); err != nil {
		d.log.Warn("releases.inbox isn't as it should be; it is watched all the same", "dir", dir, "err", err)
	}
	return inbox.New(inbox.Options{
		Dir: dir, Store: d.store, Policy: d.cfg.Policy(d.opts.Version), Install: d.dropOptions, Log: d.log,
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

// dropOptions are those by which take installs a drop of a model.
func (d *Daemon) dropOptions(model string) (release.Options, error) {
	if _, err := d.unit(model); err != nil {
		return release.Options{}, err
	}
	own := d.factories[model]
	return release.Options{Factory: own.number(), Contents: own.contents}, nil
}

// watchInbox takes releases from the inbox until ctx ends, and what is under way
// has. What becomes of the drops is published.
func (d *Daemon) watchInbox(ctx context.Context) (ended <-chan struct{}) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if d.inbox == nil {
			return
		}
		var both errgroup.Group
		both.Go(func() error { d.sayInbox(ctx); return nil })
		both.Go(func() error { d.inbox.Run(ctx); return nil })
		_ = both.Wait()
	}()
	return done
}

// sayInbox publishes the inbox's state as it changes.
func (d *Daemon) sayInbox(ctx context.Context) {
	for {
		d.say.SetState(mqtt.TopicInbox, publicInbox(d.inbox.Status()))
		select {
		case <-d.inbox.News():
		case <-ctx.Done():
			return
		}
	}
}

// What the retained state of an inbox holds at most.
const (
	publicDrops  = 20
	publicReason = 500 // bytes of one
)

// publicInbox is an inbox's state as subscribers know it: the drops that changed
// last.
func publicInbox(s inbox.Status) []byte {
	drops := s.Latest(publicDrops)
	for i := range drops {
		drops[i].Reason = shortened(drops[i].Reason)
	}
	b, err := json.Marshal(struct {
		Error string         `json:"error"`
		Drops []inbox.Result `json:"drops"`
		Total int            `json:"total"` // drops that are there
	}{shortened(s.Error), drops, len(s.Drops)})
	if err != nil {
		panic(err) // text and numbers
	}
	return b
}

// shortened cuts a text to publicReason bytes.
func shortened(s string) string {
	if len(s) <= publicReason {
		return s
	}
	s = s[:publicReason]
	for len(s) > 0 && !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + "…"
}
