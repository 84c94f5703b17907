package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sightd/sightd/daemon"
	"github.com/sightd/sightd/internal/strict"
	"github.com/sightd/sightd/release"
)

type releaseStatusCmd struct {
	configFlag
	JSON bool `name:"json" help:"One JSON document."`
}

func (c *releaseStatusCmd) Run(a *app) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	status, running, err := releaseStatus(a, cfg)
	if err != nil {
		return err
	}
	if c.JSON {
		if err := json.NewEncoder(a.stdout).Encode(withDrops(status, running)); err != nil {
			return err
		}
		return status.Damaged()
	}
	if err := writeReleaseStatus(a.stdout, status, running); err != nil {
		return err
	}
	if err := writeDrops(a.stdout, running); err != nil {
		return err
	}
	if running == nil {
		fmt.Fprintln(a.stderr, "sightd doesn't run here: SERVES is what its next start begins with")
	}
	return status.Damaged()
}

// releaseStatus is what the store knows and, where a daemon runs that tells it, what
// the daemon is doing.
func releaseStatus(a *app, cfg *daemon.Config) (*release.Status, *daemon.Status, error) {
	control, err := dial(cfg)
	if err != nil {
		return nil, nil, err
	}
	if control == nil {
		status, err := storeStatus(cfg, factoryNumbers(a, cfg))
		return status, nil, err
	}
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

func storeStatus(cfg *daemon.Config, factories map[string]int) (*release.Status, error) {
	store, err := release.OpenStore(cfg.StateDir) // reading needs no lock
	if err != nil {
		return nil, err
	}
	return store.Status(factories)
}

// buildOf is the build of a release that is under way or to be tried again; nil: none.
func buildOf(s *daemon.Status, name string, id release.ID) *daemon.BuildStatus {
	if s == nil {
		return nil
	}
	for _, m := range s.Models {
		if m.Name == name && m.Build != nil && m.Build.Release == id.Number {
			return m.Build
		}
	}
	return nil
}

// doing is what a daemon has to say of a release at the moment.
func doing(s *daemon.Status, name string, id release.ID) string {
	build := buildOf(s, name, id)
	if build != nil && build.Phase != "" {
		return "building, " + build.String()
	}
	if s == nil {
		return ""
	}
	for _, m := range s.Models {
		if m.Name == name {
			return firstLine(m.ReasonOf(id))
		}
	}
	return ""
}

// onProbation is how far the probation of the release is, if it is on any.
func onProbation(s *daemon.Status, name string, id release.ID) string {
	if s == nil {
		return ""
	}
	for _, m := range s.Models {
		if p := m.Probation; p != nil && m.Name == name && m.Release == id.Number && m.Revision == id.Revision {
			return fmt.Sprintf("on probation, %s of %s", seconds(p.Served), seconds(p.Of))
		}
	}
	return ""
}

func seconds(v float64) time.Duration { return time.Duration(v) * time.Second }

func writeReleaseStatus(to io.Writer, s *release.Status, running *daemon.Status) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MODEL\tRELEASE\tSTATE\tSERVES\tREASON")
	for _, m := range s.Models {
		if m.Error != "" {
			fmt.Fprintf(w, "%s\t-\tunknown\t\t%s\n", m.Name, firstLine(m.Error))
			continue
		}
		if len(m.Releases) == 0 {
			fmt.Fprintf(w, "%s\t-\tno release\t\tset models[].release, or install one\n", m.Name)
		}
		for _, e := range m.Releases {
			reason := cmp.Or(firstLine(e.Reason), doing(running, m.Name, e.ID()), onProbation(running, m.Name, e.ID()))
			if e.Code != "" {
				reason = fmt.Sprintf("%s: %s", e.Code, firstLine(e.Reason))
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", m.Name, e.ID(), stateOf(e), serves(m, e), reason)
		}
	}
	return w.Flush()
}

// firstLine is what of a text of somebody else's making goes into a line on a terminal.
func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return strict.Printable(line)
}
