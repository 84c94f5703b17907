package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sightd/sightd/daemon"
	"github.com/sightd/sightd/release"
)

type releaseListCmd struct {
	Name string `arg:"" optional:"" help:"Of this model alone."`
	configFlag
	JSON bool `name:"json" help:"One JSON document, as of release status."`
}

func (c *releaseListCmd) Run(a *app) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	status, _, err := releaseStatus(a, cfg)
	if err != nil {
		return err
	}
	if c.Name != "" {
		m, err := daemon.FindModel(status, c.Name)
		if err != nil {
			return err
		}
		status.Models = []release.ModelStatus{*m}
	}
	if c.JSON {
		if err := writeJSON(a.stdout, status); err != nil {
			return err
		}
		return status.Damaged()
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MODEL\tRELEASE\tSTATE\tSERVES\tSINCE")
	for _, m := range status.Models {
		for _, e := range m.Releases {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", m.Name, e.ID(), stateOf(e), serves(m, e), sinceOf(e))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return status.Damaged()
}

// stateOf is an entry's state as people read it.
func stateOf(e release.Entry) string {
	state := string(e.State)
	switch {
	case e.Factory:
		return "factory"
	case e.Gone:
		return state + ", files removed"
	case e.Held:
		return state + ", held"
	case e.Degraded:
		return state + ", degraded"
	}
	return state
}

// why is the reason of an entry's state, to be put behind that.
func why(e release.Entry) string {
	text := firstLine(e.Reason)
	switch {
	case e.Code != "" && text != "":
		return fmt.Sprintf(" (%s): %s", e.Code, text)
	case e.Code != "":
		return fmt.Sprintf(" (%s)", e.Code)
	case text != "":
		return ": " + text
	}
	return ""
}

func serves(m release.ModelStatus, e release.Entry) string {
	if e.ID() == m.ServingID() {
		return "yes"
	}
	return ""
}

func sinceOf(e release.Entry) string {
	if e.Since.IsZero() {
		return ""
	}
	return e.Since.Format(time.RFC3339)
}

type releaseShowCmd struct {
	nameAndNumber
	configFlag
	JSON bool `name:"json" help:"One JSON document."`
}

func (c *releaseShowCmd) Run(a *app) error {
	id, cfg, err := readNamed(&c.nameAndNumber, &c.configFlag)
	if err != nil {
		return err
	}
	var info *daemon.ReleaseInfo
	control, err := dial(cfg)
	if err != nil {
		return err
	}
	if control != nil {
		info, err = control.Release(a.ctx, c.Name, id)
	} else {
		info, err = showStopped(a, cfg, c.Name, id)
	}
	if err != nil {
		return err
	}
	if c.JSON {
		return writeJSON(a.stdout, info)
	}
	return writeReleaseInfo(a.stdout, info)
}

// showStopped reads the store, which needs no lock.
func showStopped(a *app, cfg *daemon.Config, name string, id release.ID) (*daemon.ReleaseInfo, error) {
	store, err := release.OpenStore(cfg.StateDir)
	if err != nil {
		return nil, err
	}
	status, err := store.Status(factoryNumbers(a, cfg))
	if err != nil {
		return nil, err
	}
	return daemon.Describe(store, cfg, version, status, name, id)
}

func writeReleaseInfo(to io.Writer, info *daemon.ReleaseInfo) error {
	e := info.Release
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "release\t%s of %s\n", info.ID, info.Name)
	state := stateOf(e) + why(e)
	if info.Serves && e.State != release.Serving {
		state += "; it serves"
	}
	fmt.Fprintf(w, "state\t%s\n", state)
	if since := sinceOf(e); since != "" {
		fmt.Fprintf(w, "since\t%s\n", since)
	}
	if info.Missing != "" {
		fmt.Fprintf(w, "files\t%s\n", firstLine(info.Missing))
		return w.Flush()
	}
	fmt.Fprintf(w, "precision\t%s\n", info.Precision)
	fmt.Fprintf(w, "sightd\t%s or later\n", info.Sightd)
	fmt.Fprintf(w, "for\tdevices %s; modules %s\n", strings.Join(info.For.Devices, ", "), strings.Join(info.For.Modules, ", "))
	if s := info.Signer; s != nil {
		fmt.Fprintf(w, "signer\tkey %s (%s), trusted comment %q\n", s.Key, s.File, s.Comment)
	} else {
		fmt.Fprintf(w, "signer\tnone known: %s\n", firstLine(info.Unsigned))
	}
	fmt.Fprintf(w, "files\t%d with %d bytes\n", len(info.Files), info.Bytes)
	for _, f := range info.Files {
		fmt.Fprintf(w, "\t%s, %d bytes, sha256 %s\n", f.Path, f.Size, f.SHA256)
	}
	return w.Flush()
}
