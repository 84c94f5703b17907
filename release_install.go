package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sightd/sightd/daemon"
	"github.com/sightd/sightd/release"
)

type releaseInstallCmd struct {
	Release string `arg:"" type:"path" help:"A .tar.zst, a folder, or a model.yaml."`
	configFlag
	Hold    bool          `help:"It waits for release activate."`
	Wait    bool          `help:"Wait until it is confirmed, as release wait does, with its exit status."`
	Timeout time.Duration `default:"15m" help:"With --wait: how long."`
	JSON    bool          `name:"json" help:"What was installed, as one JSON document."`
}

// Help explains the exit status.
func (c *releaseInstallCmd) Help() string {
	return "A release that is installed already is left as it is, and that is no error: install may be repeated.\n\n" +
		"Exit status: 0 installed; 1 refused, with the code, or failed; 2 wrong usage. With --wait: 0 confirmed, " + waitStatuses
}

func (c *releaseInstallCmd) Run(a *app) error {
	if c.Hold && c.Wait {
		return usagef("--hold and --wait exclude each other: a held release waits for release activate")
	}
	if err := checkTimeout(c.Timeout); err != nil {
		return err
	}
	cfg, err := c.load()
	if err != nil {
		return err
	}
	var done *daemon.Installed
	goesOn := "the running daemon goes over to it when it is ready"
	err = change(cfg, func(control *daemon.Control) error {
		done, err = c.send(a, control)
		return err
	}, func(store *release.Store) error {
		goesOn = "no daemon runs here, the next one takes it up"
		done, err = c.put(a, cfg, store)
		return err
	})
	if err != nil {
		return err
	}
	if c.JSON {
		if err := writeJSON(a.stdout, done); err != nil {
			return err
		}
	}
	id := done.Release.ID()
	switch {
	case done.Already:
		goesOn = "it is " + stateOf(done.Release) + why(done.Release)
		fmt.Fprintf(a.stderr, "release %s of %s is installed already: %s\n", id, done.Name, goesOn)
	case done.Release.Held:
		fmt.Fprintf(a.stderr, "release %s of %s is installed and held: it waits for sightd release activate\n", id, done.Name)
	default:
		fmt.Fprintf(a.stderr, "release %s of %s is installed; %s\n", id, done.Name, goesOn)
	}
	if !c.Wait {
		return nil
	}
	return waitFor(a, cfg, done.Name, id, release.Confirmed, c.Timeout)
}

// send sends the release to the daemon, packed on the way.
func (c *releaseInstallCmd) send(a *app, control *daemon.Control) (*daemon.Installed, error) {
	r, err := release.Open(c.Release)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return sendArchive(a.ctx, control, r, c.Hold)
}

func sendArchive(ctx context.Context, control *daemon.Control, r *release.Release, hold bool) (*daemon.Installed, error) {
	archive, packer := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := r.WriteArchive(packer)
		packer.CloseWithError(err)
		packed <- err
	}()
	done, err := control.Install(ctx, archive, hold)
	archive.Close() // where the daemon didn't read it to its end, the packer ends here
	if perr := <-packed; perr != nil && !errors.Is(perr, io.ErrClosedPipe) {
		return nil, perr
	}
	return done, err
}

// put puts the release into the store of a stopped daemon.
func (c *releaseInstallCmd) put(a *app, cfg *daemon.Config, store *release.Store) (*daemon.Installed, error) {
	if err := store.Clean(); err != nil {
		return nil, err
	}
	r, err := store.Open(c.Release)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	name := r.Spec.Name
	factory, known := factoryNumbers(a, cfg)[name]
	if !known {
		return nil, fmt.Errorf("the configuration has no model %s: add it under models", name)
	}
	entry, err := store.Install(r, cfg.Policy(version), release.Options{Factory: factory, Hold: c.Hold, Asked: true})
	var already *release.Installed
	if errors.As(err, &already) {
		return &daemon.Installed{Name: name, Release: already.Entry, Already: true}, nil
	}
	if err != nil {
		return nil, err
	}
	return &daemon.Installed{Name: name, Release: *entry}, nil
}
