package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/sightd/sightd/daemon"
	"github.com/sightd/sightd/release"
)

type releaseCmd struct {
	Pack   releasePackCmd   `cmd:"" help:"Check a model.yaml and pack it as a release."`
	Keygen releaseKeygenCmd `cmd:"" help:"Make a minisign key pair for signing releases."`
	Sign   releaseSignCmd   `cmd:"" help:"Sign a packed release, or a single file for one."`
	Verify releaseVerifyCmd `cmd:"" help:"Tell what a daemon would say of a release's files and signature."`

	Install  releaseInstallCmd  `cmd:"" help:"Install a release, in the running daemon or for its next start."`
	Activate releaseActivateCmd `cmd:"" help:"Let a held release serve, or have a rejected or rolled back one tried again."`
	List     releaseListCmd     `cmd:"" help:"The releases that are installed."`
	Show     releaseShowCmd     `cmd:"" help:"What is known of a release: files, precision, signer, state."`
	Status   releaseStatusCmd   `cmd:"" help:"The releases of each model, and what became of them."`
	Wait     releaseWaitCmd     `cmd:"" help:"Wait until a release is confirmed, rejected or rolled back."`
	Rollback releaseRollbackCmd `cmd:"" help:"Leave the release that serves for the last confirmed one."`
	Remove   releaseRemoveCmd   `cmd:"" help:"Remove a release that doesn't serve."`
}

// configFlag names the configuration of the daemon whose releases a command is about.
type configFlag struct {
	Config string `short:"c" required:"" type:"path" placeholder:"FILE" help:"sightd.yaml."`
}

func (f *configFlag) load() (*daemon.Config, error) { return daemon.LoadConfig(f.Config, os.Environ()) }

// nameAndNumber are a release that is installed.
type nameAndNumber struct {
	Name   string `arg:"" help:"The model's name."`
	Number string `arg:"" placeholder:"NUMBER" help:"The release's number; with a revision, 7.3."`
}

func (n *nameAndNumber) id() (release.ID, error) { return parseNumber(n.Number) }

func parseNumber(text string) (release.ID, error) {
	id, err := release.ParseID(text)
	if err != nil {
		return id, usageError{err}
	}
	return id, nil
}

// change does something to the releases of a running daemon, or to the store of a
// stopped one, whose lock is held meanwhile.
func change(cfg *daemon.Config, running func(*daemon.Control) error, stopped func(*release.Store) error) error {
	control, err := daemon.DialControl(cfg.ControlSocket)
	if errors.Is(err, daemon.ErrNotRunning) {
		err = inStore(cfg, stopped)
	} else if err == nil {
		err = running(control)
	}
	if code := release.CodeOf(err); code != "" {
		return fmt.Errorf("refused (%s): %w", code, err)
	}
	return err
}

func inStore(cfg *daemon.Config, f func(*release.Store) error) error {
	lock, store, err := takeStore(cfg)
	if err != nil {
		return err
	}
	defer lock.Close()
	return f(store)
}

// takeStore takes the state directory of a stopped daemon.
func takeStore(cfg *daemon.Config) (*release.Lock, *release.Store, error) {
	lock, err := release.TakeLock(cfg.StateDir)
	if errors.Is(err, release.ErrLocked) {
		return nil, nil, fmt.Errorf("%w, and nothing answers at its control socket %s: wait for it to start or to end", err, cfg.ControlSocket)
	} else if err != nil {
		return nil, nil, err
	}
	store, err := release.OpenStore(cfg.StateDir)
	if err != nil {
		lock.Close()
		return nil, nil, err
	}
	return lock, store, nil
}

// factoryNumbers are the numbers of the configured models' factory releases, 0
// where there is none that can be opened.
func factoryNumbers(a *app, cfg *daemon.Config) map[string]int {
	numbers := map[string]int{}
	for _, m := range cfg.Models {
		numbers[m.Name] = 0
		if m.Release == "" {
			continue
		}
		r, err := release.Open(m.Release)
		if err == nil && r.Spec.Name != m.Name {
			err = fmt.Errorf("%s holds a release of %s", m.Release, r.Spec.Name)
			r.Close()
		}
		if err != nil {
			fmt.Fprintf(a.stderr, "factory release of %s: %v\n", m.Name, err)
			continue
		}
		numbers[m.Name] = r.Spec.Release
		r.Close()
	}
	return numbers
}
