package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/sightd/sightd/daemon"
	"github.com/sightd/sightd/release"
	"github.com/sightd/sightd/release/inbox"
)

// statusWithDrops is what `release status --json` shows: where a daemon runs, with
// what lies in its inbox.
type statusWithDrops struct {
	*release.Status
	Drops []inbox.Result `json:"drops,omitzero"`
}

func withDrops(s *release.Status, running *daemon.Status) statusWithDrops {
	all := statusWithDrops{Status: s}
	if running != nil && running.Inbox != nil {
		all.Drops = append([]inbox.Result{}, running.Inbox.Drops...)
	}
	return all
}

// writeDrops writes what became of the drops in a running daemon's inbox.
func writeDrops(to io.Writer, running *daemon.Status) error {
	if running == nil || running.Inbox == nil {
		return nil
	}
	in := running.Inbox
	if in.Error != "" {
		if _, err := fmt.Fprintf(to, "\ninbox: %s\n", firstLine(in.Error)); err != nil {
			return err
		}
	}
	if len(in.Drops) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nDROP\tMODEL\tRELEASE\tSTATE\tREASON")
	for _, d := range in.Drops {
		id, state, reason := "", string(d.State), firstLine(d.Reason)
		if d.Number > 0 {
			id = release.ID{Number: d.Number, Revision: d.Revision}.String()
		}
		if d.Held {
			state += ", held"
		}
		if d.Code != "" {
			reason = fmt.Sprintf("%s: %s", d.Code, reason)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", d.Drop, d.Name, id, state, reason)
	}
	return w.Flush()
}
