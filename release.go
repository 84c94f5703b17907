package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/sightd/sightd/daemon"
	"github.com/sightd/sightd/release"
)

type releaseCmd struct {
	Pack    releasePackCmd    `cmd:"" help:"Check a model.yaml and pack it as a release."`
	Keygen  releaseKeygenCmd  `cmd:"" help:"Make a minisign key pair for signing releases."`
	Sign    releaseSignCmd    `cmd:"" help:"Sign a packed release, or a single file for one."`
	Verify  releaseVerifyCmd  `cmd:"" help:"Tell what a daemon would say of a release's files and signature."`
	Install releaseInstallCmd `cmd:"" help:"Install a release, in the running daemon or for its next start."`
	Status  releaseStatusCmd  `cmd:"" help:"The releases of each model, and what became of them."`
}

type releaseInstallCmd struct {
	Release string `arg:"" type:"path" help:"A .tar.zst, a folder, or a model.yaml."`
	Config  string `short:"c" required:"" type:"path" placeholder:"FILE" help:"sightd.yaml."`
}

func (c *releaseInstallCmd) Run(a *app) error {
	cfg, err := daemon.LoadConfig(c.Config, os.Environ())
	if err != nil {
		return err
	}
	control, err := daemon.DialControl(cfg.ControlSocket)
	if errors.Is(err, daemon.ErrNotRunning) {
		err = installStopped(a, cfg, c.Release)
	} else if err == nil {
		err = installRunning(a, control, c.Release)
	}
	if code := release.CodeOf(err); code != "" {
		return fmt.Errorf("refused (%s): %w", code, err)
	}
	return err
}

// installRunning sends the release to the daemon, packed on the way.
func installRunning(a *app, control *daemon.Control, path string) error {
	r, err := release.Open(path)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := sendArchive(a.ctx, control, r); err != nil {
		return err
	}
	fmt.Fprintf(a.stderr, "release %d of %s is installed; the running daemon goes over to it when it is ready\n", r.Spec.Release, r.Spec.Name)
	return nil
}

func sendArchive(ctx context.Context, control *daemon.Control, r *release.Release) error {
	archive, packer := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := r.WriteArchive(packer)
		packer.CloseWithError(err)
		packed <- err
	}()
	err := control.Install(ctx, archive)
	archive.Close() // where the daemon didn't read it to its end, the packer ends here
	if perr := <-packed; perr != nil && !errors.Is(perr, io.ErrClosedPipe) {
		return perr
	}
	return err
}

func installStopped(a *app, cfg *daemon.Config, path string) error {
	lock, store, err := takeStore(cfg)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := store.Clean(); err != nil {
		return err
	}
	r, err := store.Open(path)
	if err != nil {
		return err
	}
	defer r.Close()
	name := r.Spec.Name
	factories := factoryNumbers(a, cfg)
	factory, known := factories[name]
	if !known {
		return fmt.Errorf("the configuration has no model %s: add it under models", name)
	}
	entry, err := store.Install(r, cfg.Policy(version), release.Options{Factory: factory, Asked: true})
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stderr, "release %d of %s is installed; no daemon runs here, the next one takes it up\n", entry.Number, name)
	return nil
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

type releaseStatusCmd struct {
	Config string `short:"c" required:"" type:"path" placeholder:"FILE" help:"sightd.yaml."`
	JSON   bool   `name:"json" help:"One JSON document."`
}

func (c *releaseStatusCmd) Run(a *app) error {
	cfg, err := daemon.LoadConfig(c.Config, os.Environ())
	if err != nil {
		return err
	}
	status, running, err := releaseStatus(a, cfg)
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(a.stdout).Encode(withDrops(status, running))
	}
	if err := writeReleaseStatus(a.stdout, status, running); err != nil {
		return err
	}
	return writeDrops(a.stdout, running)
}

// releaseStatus is what the store knows and, where a daemon runs that tells it, what
// the daemon is doing.
func releaseStatus(a *app, cfg *daemon.Config) (*release.Status, *daemon.Status, error) {
	control, err := daemon.DialControl(cfg.ControlSocket)
	if err == nil {
		status, err := control.Releases(a.ctx)
		if err != nil {
			return nil, nil, err
		}
		running, err := control.Status(a.ctx)
		if err != nil {
			running = nil // one that ends or starts this moment
		}
		return status, running, nil
	}
	if !errors.Is(err, daemon.ErrNotRunning) {
		return nil, nil, err
	}
	store, err := release.OpenStore(cfg.StateDir) // reading needs no lock
	if err != nil {
		return nil, nil, err
	}
	status, err := store.Status(factoryNumbers(a, cfg))
	return status, nil, err
}

// doing is what a daemon has to say of a release at the moment.
func doing(s *daemon.Status, name string, number int) string {
	if s == nil {
		return ""
	}
	for _, m := range s.Models {
		if m.Name != name {
			continue
		}
		switch b := m.Build; {
		case b != nil && b.Release == number && b.Phase != "":
			return "building, " + b.String()
		case m.Release == number || b != nil && b.Release == number:
			return firstLine(m.Reason)
		}
	}
	return ""
}

func writeReleaseStatus(to io.Writer, s *release.Status, running *daemon.Status) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MODEL\tRELEASE\tSTATE\tSERVES\tREASON")
	for _, m := range s.Models {
		if len(m.Releases) == 0 {
			fmt.Fprintf(w, "%s\t-\tno release\t\tset models[].release, or install one\n", m.Name)
		}
		for _, e := range m.Releases {
			state, serves, reason := string(e.State), "", ""
			if e.Factory {
				state = "factory"
			}
			if e.Number == m.Serving {
				serves = "yes"
			}
			if e.Code != "" {
				reason = fmt.Sprintf("%s: %s", e.Code, firstLine(e.Reason))
			} else {
				reason = cmp.Or(firstLine(e.Reason), doing(running, m.Name, e.Number))
			}
			fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\n", m.Name, e.Number, state, serves, reason)
		}
	}
	return w.Flush()
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
