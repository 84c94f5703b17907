package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sightd/sightd/daemon"
	"github.com/sightd/sightd/release"
)

// The exit statuses of waiting, beside 0, 1 and 2.
const (
	statusRejected   exitStatus = 3
	statusRolledBack exitStatus = 4
	statusTimedOut   exitStatus = 5
)

const waitStatuses = "3 rejected, 4 rolled back (or to be, with nothing to go back to), 5 timed out."

type releaseWaitCmd struct {
	Name   string `arg:"" help:"The model's name."`
	Number string `arg:"" optional:"" placeholder:"NUMBER" help:"The release's number, 7, or 7.3 with a revision, installed or still to come; by default the highest that is installed."`
	configFlag
	Timeout time.Duration `default:"15m" help:"How long; 0 looks once."`
	For     string        `enum:"confirmed,serving,proven" default:"confirmed" help:"The state to wait for, or a later one: confirmed, serving or proven."`
}

// Help explains the exit status.
func (c *releaseWaitCmd) Help() string {
	return "What changes meanwhile is said on standard error. A daemon that is restarted, or isn't there yet, is waited for, " +
		"and so is a release that isn't installed yet: its drop may be on its way into the inbox.\n\n" +
		"Exit status: 0 the state is reached, " + waitStatuses + " 1 failed, as where it was removed or a newer one has taken its place; 2 wrong usage."
}

func (c *releaseWaitCmd) Run(a *app) error {
	if err := checkTimeout(c.Timeout); err != nil {
		return err
	}
	var id release.ID
	if c.Number != "" {
		var err error
		if id, err = parseNumber(c.Number); err != nil {
			return err
		}
	}
	cfg, err := c.load()
	if err != nil {
		return err
	}
	return waitFor(a, cfg, c.Name, id, release.State(c.For), c.Timeout)
}

func checkTimeout(d time.Duration) error {
	if d < 0 {
		return usagef("--timeout %v: want 0 or more, such as 15m", d)
	}
	return nil
}

const (
	waitEvery = 250 * time.Millisecond
	// mute is how long a daemon may listen and not answer before that is an error.
	mute = 10 * time.Second
)

// waiter waits for one release.
type waiter struct {
	a         *app
	cfg       *daemon.Config
	factories map[string]int
	name      string
	id        release.ID // zero: the highest, once that is known
	target    release.State

	said   string // last
	lacked string // likewise, while it isn't installed
	silent bool   // no daemon answers, and that was said
	heard  time.Time
}

// waitFor waits until a release has come to the target or will not; the error is its
// exit status.
func waitFor(a *app, cfg *daemon.Config, name string, id release.ID, target release.State, timeout time.Duration) error {
	w := &waiter{a: a, cfg: cfg, name: name, id: id, target: target, heard: time.Now()}
	deadline := time.Now().Add(timeout)
	for {
		done, err := w.look()
		if done || err != nil {
			return err
		}
		left := time.Until(deadline)
		if left <= 0 {
			fmt.Fprintf(a.stderr, "%s isn't %s after %v\n", w.what(), target, timeout)
			return statusTimedOut
		}
		select {
		case <-a.ctx.Done():
			return context.Canceled
		case <-time.After(min(waitEvery, left)):
		}
	}
}

// look looks once; done tells that the target is reached.
func (w *waiter) look() (done bool, err error) {
	status, running, err := w.status()
	if err != nil {
		return false, err
	}
	if status == nil {
		return false, nil // it is stopping or starting
	}
	m, err := daemon.FindModel(status, w.name)
	if err != nil {
		return false, err
	}
	if w.id == (release.ID{}) {
		for _, e := range m.Releases {
			if e.ID().Compare(w.id) > 0 {
				w.id = e.ID()
			}
		}
	}
	e, err := daemon.FindRelease(m, w.id)
	if err != nil {
		if w.said != "" {
			return false, err // it was there
		}
		return false, w.missing(running)
	}
	w.say(*e, running)
	return w.judge(*e)
}

// what is the release that is waited for.
func (w *waiter) what() string {
	if w.id == (release.ID{}) {
		return "a release of " + w.name
	}
	return fmt.Sprintf("release %s of %s", w.id, w.name)
}

// missing says that the release isn't installed yet, and what its drop in the inbox lacks,
// where there is one. The error is the status of one that was rejected there.
func (w *waiter) missing(running *daemon.Status) error {
	text := w.what() + " is not installed yet: it is waited for"
	var err error
	if running != nil && running.Inbox != nil {
		text += "; drops go into " + running.Inbox.Dir
		for _, d := range running.Inbox.Drops {
			if d.Name != w.name || (release.ID{Number: d.Number, Revision: d.Revision}) != w.id {
				continue
			}
			if d.State == release.Rejected {
				text, err = fmt.Sprintf("%s, the drop %s: rejected (%s): %s", w.what(), d.Drop, d.Code, firstLine(d.Reason)), statusRejected
			} else if d.Reason != "" {
				text += fmt.Sprintf("; %s lies there: %s", d.Drop, firstLine(d.Reason))
			}
		}
	} else if w.cfg.Releases.Inbox != "" {
		text += "; drops go into " + w.cfg.Releases.Inbox
	}
	if text != w.lacked {
		w.lacked = text
		fmt.Fprintln(w.a.stderr, text)
	}
	return err
}

// status is nil while a daemon is there and doesn't answer.
func (w *waiter) status() (*release.Status, *daemon.Status, error) {
	control, err := dial(w.cfg)
	if err != nil {
		return nil, nil, err
	}
	if control == nil {
		w.heard = time.Now()
		if !w.silent {
			w.note("no daemon runs here: it is waited for")
		}
		w.silent = true
		if w.factories == nil {
			w.factories = factoryNumbers(w.a, w.cfg)
		}
		status, err := storeStatus(w.cfg, w.factories)
		return status, nil, err
	}
	status, err := control.Releases(w.a.ctx)
	if daemon.IsUnreachable(err) && w.a.ctx.Err() == nil && time.Since(w.heard) < mute {
		return nil, nil, nil
	} else if err != nil {
		return nil, nil, err
	}
	if w.silent {
		w.note("the daemon answers")
	}
	w.silent, w.heard = false, time.Now()
	running, err := control.Status(w.a.ctx)
	if err != nil {
		running = nil // it ends or starts this moment
	}
	return status, running, nil
}

func (w *waiter) note(text string) {
	fmt.Fprintf(w.a.stderr, "waiting for %s: %s\n", w.name, text)
}

// say tells of a new state, a new phase of the build, and each further tenth of it.
func (w *waiter) say(e release.Entry, running *daemon.Status) {
	text := stateOf(e)
	key := text
	if build := buildOf(running, w.name, e.ID()); build != nil && build.Phase != "" {
		text += ", building, " + build.String()
		key += " " + build.Phase
		if share := build.Share(); share != nil {
			key += fmt.Sprint(" ", int(10**share))
		}
	} else if now := doing(running, w.name, e.ID()); now != "" && e.Reason == "" {
		text += ": " + now
		key = text
	}
	if key == w.said {
		return
	}
	w.said = key
	fmt.Fprintf(w.a.stderr, "release %s of %s: %s\n", e.ID(), w.name, text+why(e))
}

var ranks = []release.State{release.Proven, release.Serving, release.Confirmed}

// judge tells whether a release has reached the target, or that it will not.
func (w *waiter) judge(e release.Entry) (done bool, err error) {
	switch {
	case e.State == release.Rejected:
		return false, statusRejected
	case e.State == release.RolledBack:
		return false, statusRolledBack
	case e.Held && e.Code == release.Superseded:
		return false, fmt.Errorf("release %s of %s was overtaken: %s; `sightd release activate` has it serve all the same", e.ID(), w.name, firstLine(e.Reason))
	case slices.Index(ranks, e.State) >= slices.Index(ranks, w.target):
		return true, nil
	case e.Degraded:
		return false, statusRolledBack
	}
	return false, nil
}

// dial connects to the running daemon; nil where none runs.
func dial(cfg *daemon.Config) (*daemon.Control, error) {
	control, err := daemon.DialControl(cfg.ControlSocket)
	if errors.Is(err, daemon.ErrNotRunning) {
		return nil, nil
	}
	return control, err
}
