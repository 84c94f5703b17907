package main

import (
	"fmt"

	"github.com/sightd/sightd/daemon"
	"github.com/sightd/sightd/release"
)

type releaseActivateCmd struct {
	nameAndNumber
	configFlag
}

func (c *releaseActivateCmd) Run(a *app) error {
	id, cfg, err := readNamed(&c.nameAndNumber, &c.configFlag)
	if err != nil {
		return err
	}
	err = change(cfg,
		func(control *daemon.Control) error { return control.Activate(a.ctx, c.Name, id) },
		func(store *release.Store) error { return store.Activate(c.Name, id) })
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stderr, "release %s of %s serves when it is ready\n", id, c.Name)
	return nil
}

func readNamed(n *nameAndNumber, f *configFlag) (release.ID, *daemon.Config, error) {
	id, err := n.id()
	if err != nil {
		return id, nil, err
	}
	cfg, err := f.load()
	return id, cfg, err
}

type releaseRollbackCmd struct {
	Name   string `arg:"" help:"The model's name."`
	Number string `arg:"" optional:"" placeholder:"NUMBER" help:"The release to leave, which must be the one that serves; by default whichever does."`
	configFlag
	Reason string `placeholder:"TEXT" help:"Why, for the status and the log."`
}

// Help explains what it does and the exit status.
func (c *releaseRollbackCmd) Help() string {
	return "The last confirmed release before it serves at once, or the factory release. What was left isn't tried again, " +
		"unless release activate asks for it.\n\n" +
		"Exit status: 0 rolled back; 1 it doesn't serve, or there is nothing to go back to; 2 wrong usage."
}

func (c *releaseRollbackCmd) Run(a *app) error {
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
	var done *daemon.RolledBack
	err = change(cfg, func(control *daemon.Control) error {
		done, err = control.RollBack(a.ctx, c.Name, id, c.Reason)
		return err
	}, func(store *release.Store) error {
		done, err = rollBackStopped(store, factoryNumbers(a, cfg), c.Name, id, c.Reason)
		return err
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stderr, "release %s of %s is left for %s\n", done.From, c.Name, done.To)
	return nil
}

func rollBackStopped(store *release.Store, factories map[string]int, name string, id release.ID, reason string) (*daemon.RolledBack, error) {
	status, err := store.Status(factories)
	if err != nil {
		return nil, err
	}
	m, err := daemon.FindModel(status, name)
	if err != nil {
		return nil, err
	}
	if id == (release.ID{}) {
		id = m.ServingID()
	}
	to, err := store.RollBack(name, id, factories[name], release.ByHand, reason)
	if err != nil {
		return nil, err
	}
	return &daemon.RolledBack{Name: name, From: id, To: to.ID()}, nil
}

type releaseRemoveCmd struct {
	nameAndNumber
	configFlag
}

func (c *releaseRemoveCmd) Run(a *app) error {
	id, cfg, err := readNamed(&c.nameAndNumber, &c.configFlag)
	if err != nil {
		return err
	}
	err = change(cfg,
		func(control *daemon.Control) error { return control.Remove(a.ctx, c.Name, id) },
		func(store *release.Store) error { return store.Remove(c.Name, id, factoryNumbers(a, cfg)[c.Name]) })
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stderr, "release %s of %s is removed\n", id, c.Name)
	return nil
}
