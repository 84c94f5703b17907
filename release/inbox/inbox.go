// Package inbox watches a directory into which others put releases, by any tool
// and in any order, and hands on those that are whole.
//
// Events are only a reason to look: a drop is whole when all that its manifest
// names is there with size and hash, and what can't be told by events (on
// network file systems, after an overflow, when the directory was made anew) a
// scan finds. Nothing in the directory is trusted; see [release.Store.Receive]
// for how it is read.
package inbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sightd/sightd/release"
)

// Options are what an inbox is told.
type Options struct {
	Dir    string
	Store  *release.Store
	Policy release.Policy
	// Take gets a whole release that the policy admits, and installs it. It is
	// closed afterwards. A Rejection is for good; other errors are tried again.
	Take func(*release.Release) (*release.Entry, error)
	// Base gives the release that serves a model, on which single files go: it stays the
	// giver's, and isn't closed. An Incomplete where none serves yet, a Rejection where
	// the device has no such model. nil: single files aren't taken.
	Base func(model string) (*release.Release, error)
	// Install gives the options by which Take will install a release of a model, and
	// may refuse the model; nil: none.
	Install func(model string) (release.Options, error)
	Log     *slog.Logger

	// Zero: the usual ones.
	Settle   time.Duration // a drop is looked at when nothing has happened to it for so long
	Rescan   time.Duration // everything is looked at so often, events or none
	Patience time.Duration // a drop whose content is wrong, not short, is rejected when nothing has happened to it for so long
	Return   time.Duration // a missing directory is looked for so often

	NoEvents bool // the scan alone

	// Of tests alone.
	wall    func() time.Time // the clock, which may be set; what is due goes by time that passes
	watcher *watcher         // instead of one of Run's own
}

const (
	maxDrops = 1000
	maxName  = 200 // bytes, so that there is room for a result's name
	racy     = 2 * time.Second
)

// Inbox is one watched directory. Run owns all but what mu guards.
type Inbox struct {
	o       Options
	watch   *watcher
	drops   map[string]*drop
	due     map[string]time.Time // when to look at a drop
	scanAt  time.Time
	refused map[string]Result // by the identity of the content
	trouble map[string]string // what is wrong with the directory, said once

	woken chan struct{} // capacity 1: releases were told of
	news  chan struct{} // capacity 1: the status has changed

	mu     sync.Mutex
	status Status
	told   map[installed]release.Entry // the latest of each
}

// drop is what is known of a drop.
type drop struct {
	is      installed              // the release that came of it; none: it wasn't installed
	hash    string                 // of that release's manifest
	ends    map[release.State]bool // that were counted
	head    string                 // of what its manifest looked like
	files   []string               // that it consists of, by that manifest
	print   string                 // of what all of it looked like
	touched time.Time              // when something last happened to it
	again   bool                   // it is to be looked at although nothing happened
	wrong   error                  // why it is rejected unless something happens; nil: nothing is wrong
	said    map[release.Code]bool
	result  Result
	unsaid  bool // the result couldn't be written
}

// New makes an inbox; the directory needn't be there.
func New(o Options) *Inbox {
	o.Settle = cmp.Or(o.Settle, 500*time.Millisecond)
	o.Rescan = cmp.Or(o.Rescan, time.Minute)
	o.Patience = cmp.Or(o.Patience, 10*time.Second)
	o.Return = cmp.Or(o.Return, time.Second)
	if o.wall == nil {
		o.wall = time.Now
	}
	return &Inbox{
		o: o, drops: map[string]*drop{}, due: map[string]time.Time{},
		refused: map[string]Result{}, trouble: map[string]string{},
		woken: make(chan struct{}, 1), news: make(chan struct{}, 1), told: map[installed]release.Entry{},
		status: Status{Dir: o.Dir, Drops: []Result{}, Rejected: map[release.Code]uint64{}, RolledBack: map[release.Code]uint64{}},
	}
}

// Run watches until ctx ends.
func (i *Inbox) Run(ctx context.Context) {
	if i.watch = i.o.watcher; i.watch == nil {
		i.watch = newWatcher(i.o.NoEvents)
	}
	defer i.watch.close()
	for ctx.Err() == nil {
		i.work(ctx)
		next := i.scanAt
		for _, at := range i.due {
			if at.Before(next) {
				next = at
			}
		}
		timer := time.NewTimer(time.Until(next))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-i.woken:
			i.follow()
		case e := <-i.watch.events:
			i.noticed(i.watch.dropOf(i.o.Dir, e))
		case <-i.watch.errors:
			i.missed()
		}
		timer.Stop()
	}
}

// missed has everything looked at and watched anew, since events were lost: most
// likely the kernel's queue was full, and anything may have happened.
func (i *Inbox) missed() {
	i.watch.reset()
	i.scanAt = time.Now().Add(i.o.Settle)
}

// noticed puts off the look at a drop to which something happens.
func (i *Inbox) noticed(name string) {
	now := time.Now()
	switch {
	case name == "": // to the directory itself
		i.scanAt = now.Add(i.o.Settle)
	case mayBeDrop(name):
		i.due[name] = now.Add(i.o.Settle)
		if d := i.drops[name]; d != nil {
			d.touched = now
		}
	}
}

// mayBeDrop leaves out results, what rsync and others write to before they
// rename, and what can't be shown.
func mayBeDrop(name string) bool {
	return !strings.HasPrefix(name, ".") && !strings.HasSuffix(name, ResultSuffix) && len(name) <= maxName &&
		utf8.ValidString(name) && !strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) })
}

// work looks at what is due.
func (i *Inbox) work(ctx context.Context) {
	now := time.Now()
	scan := !i.scanAt.After(now)
	var names []string
	for name, at := range i.due {
		if !at.After(now) {
			names = append(names, name)
		}
	}
	if !scan && len(names) == 0 {
		return
	}
	root, err := openRoot(i.o.Dir)
	if err != nil {
		clear(i.due)
		i.scanAt = now.Add(i.o.Rescan)
		if errors.Is(err, os.ErrNotExist) {
			clear(i.drops)
			i.publish()
			i.scanAt = now.Add(i.o.Return)
		}
		i.say("open", fmt.Errorf("open the inbox: %w", err))
		return
	}
	defer root.Close()
	if scan {
		// Watched before it is listed, so that nothing falls between.
		i.watch.prune()
		i.watch.add(root, ".", i.o.Dir)
		all, err := i.list(root)
		i.say("open", err)
		for name := range i.drops {
			if err == nil && !slices.Contains(all, name) {
				i.forget(name)
			}
		}
		names = append(names, all...)
		i.scanAt = now.Add(i.o.Rescan)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if ctx.Err() != nil {
			return
		}
		delete(i.due, name)
		i.look(ctx, root, name)
	}
	if scan {
		i.ask(root)
		i.say("watch", i.watch.failed)
	}
	i.publish()
}

// openRoot opens a directory, and doesn't wait where it is something else.
func openRoot(dir string) (*os.Root, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%s is no directory", dir)
	}
	return os.OpenRoot(dir)
}

func (i *Inbox) list(root *os.Root) ([]string, error) {
	f, err := root.Open(".")
	if err != nil {
		return nil, fmt.Errorf("list the inbox: %w", err)
	}
	defer f.Close()
	var all []string
	for {
		entries, err := f.ReadDir(256)
		for _, e := range entries {
			if mayBeDrop(e.Name()) {
				all = append(all, e.Name())
			} else if isTemp(e.Name()) {
				_ = root.Remove(e.Name())
			}
		}
		if len(all) > maxDrops {
			slices.Sort(all)
			return all[:maxDrops], fmt.Errorf("the inbox %s holds more than %d drops: remove old ones, the rest isn't looked at", i.o.Dir, maxDrops)
		}
		if len(entries) == 0 {
			if err != nil && !errors.Is(err, io.EOF) {
				return nil, fmt.Errorf("list the inbox: %w", err)
			}
			return all, nil
		}
	}
}

func (i *Inbox) forget(name string) {
	delete(i.drops, name)
	delete(i.due, name)
	i.watch.remove(i.o.Dir, name)
}

// say logs what is wrong with the directory when that changes.
func (i *Inbox) say(what string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if i.trouble[what] == text {
		return
	}
	i.trouble[what] = text
	if err != nil {
		i.o.Log.Warn("inbox", "dir", i.o.Dir, "err", err)
	} else {
		i.o.Log.Info("inbox works again", "dir", i.o.Dir)
	}
	i.mu.Lock()
	i.status.Error = ""
	for _, what := range slices.Sorted(maps.Keys(i.trouble)) {
		i.status.Error = cmp.Or(i.status.Error, i.trouble[what])
	}
	i.mu.Unlock()
	nudge(i.news)
}
