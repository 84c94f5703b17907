package daemon

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sightd/sightd/internal/strict"
	"github.com/sightd/sightd/mqtt"
	"github.com/sightd/sightd/release"
)

// The codes of commands' replies, beside those of package mqtt.
const (
	unknownCamera = "unknown-camera"
	noPicture     = "no-picture"  // the camera gives none
	notServing    = "not-serving" // another release serves than the one to leave
	noWayBack     = "no-way-back" // there is no confirmed release to go back to
	unsupported   = "unsupported" // by this version
)

func (d *Daemon) commandDir() string { return filepath.Join(d.cfg.StateDir, "commands") }

// clockSet is nil where what expires can be told.
func (d *Daemon) clockSet() error {
	if d.opts.clock != nil {
		return d.opts.clock()
	}
	return d.clock.set()
}

// commands are those that the configuration allows.
func (d *Daemon) commands() map[string]mqtt.Command {
	if len(d.cfg.MQTT.Commands) == 0 {
		return nil
	}
	all := map[string]mqtt.Command{}
	for _, name := range d.cfg.MQTT.Commands {
		switch name {
		case "snapshot":
			all[name] = mqtt.NewCommand(d.commandSnapshot)
		case "rollback":
			all[name] = mqtt.NewCommand(d.commandRollBack)
		default:
			d.log.Warn("mqtt.commands: this version can't do it, and answers so", "command", name)
			all[name] = mqtt.NewCommand(func(context.Context, struct{ mqtt.Request }) (any, error) {
				return nil, &mqtt.CommandError{Code: unsupported, Err: fmt.Errorf("this version of sightd has no %s yet", name)}
			})
		}
	}
	d.log.Info("commands are taken over MQTT; who may send them is the broker's access list to say", "commands", d.cfg.MQTT.Commands)
	return all
}

func because(code, format string, args ...any) error {
	return &mqtt.CommandError{Code: code, Err: fmt.Errorf(format, args...)}
}

// rollBackArgs name the release to leave, so that a command that comes late, or
// twice, leaves no other.
type rollBackArgs struct {
	mqtt.Request
	Model   string     `json:"model"`
	Release release.ID `json:"release"`
	Reason  string     `json:"reason"` // for people; may be left out
}

func (d *Daemon) commandRollBack(ctx context.Context, a rollBackArgs) (any, error) {
	switch {
	case a.Model == "":
		return nil, because(mqtt.RefusedInvalid, "model: missing: wanted the name of a model")
	case a.Release == release.ID{}:
		return nil, because(mqtt.RefusedInvalid, "release: missing: wanted the release to leave, such as 7, or \"7.3\" for its revision 3")
	case len(a.Reason) > maxWhy:
		return nil, because(mqtt.RefusedInvalid, "reason: %d bytes: at most %d are taken", len(a.Reason), maxWhy)
	}
	if err := strict.Plain(a.Reason); err != nil { // it comes to be shown on terminals
		return nil, because(mqtt.RefusedInvalid, "reason: %w: wanted a text on one line", err)
	}
	u, err := d.unit(a.Model)
	if err != nil {
		return nil, because(string(release.CodeOf(err)), "%w", err)
	}
	s := u.Status()
	if serves := (release.ID{Number: s.Release, Revision: s.Revision}); s.State != modelServing || serves != a.Release {
		return nil, because(notServing, "model %s: release %s doesn't serve: %s%s", a.Model, a.Release, s.State, prefixed(" ", releaseText(serves)))
	}
	if s.Factory {
		return nil, because(noWayBack, "model %s: the factory release serves, so there is nothing to roll back", a.Model)
	}
	reason := "asked for over MQTT, command " + a.ID + prefixed(": ", a.Reason)
	var stays *release.NoWayBack
	switch err := d.rollBack(ctx, a.Model, a.Release, reason); {
	case errors.As(err, &stays):
		return nil, because(noWayBack, "%w", err)
	case err != nil:
		return nil, err
	}
	done := RolledBack{Name: a.Model, From: a.Release}
	if all, err := d.store.Status(d.factoryNumbers()); err == nil {
		if m, err := FindModel(all, a.Model); err == nil {
			done.To = m.ServingID()
		}
	}
	return done, nil
}

// view is that of a camera.
func (d *Daemon) view(name string) (view, error) {
	if name == "" {
		return view{}, because(mqtt.RefusedInvalid, "camera: missing: wanted the name of a camera")
	}
	i := slices.IndexFunc(d.cameras, func(v view) bool { return v.name == name })
	if i < 0 {
		var names []string
		for _, v := range d.cameras {
			names = append(names, v.name)
		}
		return view{}, because(unknownCamera, "there is no camera %.100q: there are %s", name, strings.Join(names, ", "))
	}
	return d.cameras[i], nil
}
