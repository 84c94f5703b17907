package daemon

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/sightd/sightd/mqtt"
	"github.com/sightd/sightd/release"
)

// Policy is what this device takes, by its configuration.
func (c *Config) Policy(version string) release.Policy {
	p := release.Policy{
		Device: c.Device, Version: version,
		RequireSignature: c.Releases.RequireSignature, Revoked: c.Releases.Revoked,
	}
	for _, k := range c.Releases.Keys {
		p.Keys = append(p.Keys, release.TrustedKey{File: k.File, Names: k.Names})
	}
	return p
}

// factory is a model's factory release, which the configuration names by path;
// rel and err are nil where it names none.
type factory struct {
	rel *release.Release
	err error
}

// openFactory opens the factory release of a model.
func (d *Daemon) openFactory(m ModelConfig) (f factory) {
	if d.opts.factory != nil {
		return factory{rel: d.opts.factory}
	}
	if m.Release == "" {
		return f
	}
	if f.rel, f.err = d.store.Open(m.Release); f.err == nil && f.rel.Spec.Name != m.Name {
		f.err = fmt.Errorf("%s holds a release of %s", m.Release, f.rel.Spec.Name)
		f.rel.Close()
	}
	if f.err != nil {
		f.err = fmt.Errorf("factory release of %s: %w", m.Name, f.err)
		d.log.Error("factory release can't be used", "model", m.Name, "err", f.err)
		f.rel = nil
		return f
	}
	f.rel.Factory = true
	return f
}

// number is the factory release's, or 0.
func (f factory) number() int {
	if f.rel == nil {
		return 0
	}
	return f.rel.Spec.Release
}

// candidates are the releases that may serve a model, best first: the highest
// number, installed or factory; the factory release last of all is the resort
// when the others fail.
func (d *Daemon) candidates(name string) ([]*release.Release, error) {
	own := d.factories[name]
	failures := []error{own.err}
	entries, err := d.store.Serving(name)
	if err != nil {
		d.log.Error("installed releases can't be read", "model", name, "err", err)
		failures = append(failures, err)
	}
	var all []*release.Release
	for _, e := range entries {
		if e.Number < own.number() {
			break // the package that brought the factory release was updated
		}
		rel, err := d.store.Get(name, e.Number)
		if err != nil {
			d.log.Error("installed release can't be used", "model", name, "release", e.Number, "err", err)
			failures = append(failures, err)
			continue
		}
		all = append(all, rel)
	}
	if own.rel != nil {
		all = append(all, own.rel)
	}
	if len(all) == 0 {
		if err := errors.Join(failures...); err != nil {
			return nil, fmt.Errorf("model %s: %w", name, err)
		}
		return nil, fmt.Errorf("model %s: no release is installed and the configuration names no factory release: set models[].release, or `sightd release install` one", name)
	}
	return all, nil
}

// report notes a release's state on disk and tells the subscribers.
func (d *Daemon) report(rel *release.Release, state release.State, err error) {
	name, number := rel.Spec.Name, rel.Spec.Release
	reason := ""
	if err != nil {
		reason = err.Error()
	}
	if serr := d.note(rel, state, release.CodeOf(err), reason); serr != nil {
		d.log.Error("note the release's state", "model", name, "release", number, "err", serr)
	}
	d.sayRelease(name, mqtt.Release{Release: number, State: string(state), Reason: reason})
}

// progress tells the subscribers what is being done for a release on its way.
func (d *Daemon) progress(rel *release.Release, r mqtt.Release) {
	r.Release, r.State = rel.Spec.Release, cmp.Or(r.State, string(release.Staged))
	d.sayRelease(rel.Spec.Name, r)
}

func (d *Daemon) sayRelease(name string, r mqtt.Release) {
	if r.Since.IsZero() {
		r.Since = mqtt.Time{Time: time.Now()}
	}
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // text and numbers
	}
	d.say.SetState(mqtt.TopicRelease(name), b)
}

// note writes a release's state down. Where it serves now, the one that served
// before is a built one again.
func (d *Daemon) note(rel *release.Release, state release.State, code release.Code, reason string) error {
	name, number := rel.Spec.Name, rel.Spec.Release
	if d.opts.factory != nil {
		return nil // it is no release of this state directory
	}
	if state == release.Serving {
		entries, err := d.store.List(name)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.State == release.Serving && (e.Number != number || rel.Factory) {
				if err := d.store.SetState(name, e.Number, release.Built, "", ""); err != nil {
					return err
				}
			}
		}
	}
	if rel.Factory {
		return nil
	}
	return d.store.SetState(name, number, state, code, reason)
}

// install takes a release, packed as .tar.zst, into the store and has its
// model go over to it when it is ready.
func (d *Daemon) install(archive io.Reader) error {
	rel, err := d.store.OpenArchive("the release sent", archive)
	if err != nil {
		return err
	}
	defer rel.Close()
	name, number := rel.Spec.Name, rel.Spec.Release
	if _, err := d.take(rel); err != nil {
		d.log.Warn("release refused", "model", name, "release", number, "code", release.CodeOf(err), "err", err)
		return err
	}
	d.log.Info("release installed", "model", name, "release", number)
	return nil
}

// take puts a release, however it came, into the store and has its model go over
// to it when it is ready. It logs nothing: who brought the release does.
func (d *Daemon) take(rel *release.Release) (*release.Entry, error) {
	name := rel.Spec.Name
	i := slices.IndexFunc(d.units, func(u *unit) bool { return u.name == name })
	if i < 0 {
		return nil, &release.Rejection{Code: release.UnknownModel, Err: fmt.Errorf("the configuration has no model %s: add it under models", name)}
	}
	d.installing.Lock()
	defer d.installing.Unlock()
	entry, err := d.store.Install(rel, d.cfg.Policy(d.opts.Version), d.factories[name].number())
	if err != nil {
		return nil, err
	}
	installed, err := d.store.Get(name, entry.Number)
	if err != nil {
		return nil, err
	}
	d.units[i].offer(installed)
	return entry, nil
}

// Releases returns what is installed and what became of it.
func (d *Daemon) Releases() (*release.Status, error) {
	numbers := map[string]int{}
	for name, f := range d.factories {
		numbers[name] = f.number()
	}
	s, err := d.store.Status(numbers)
	if err != nil {
		return nil, err
	}
	for i := range s.Models {
		for _, u := range d.units {
			if u.name != s.Models[i].Name {
				continue
			}
			// The store says what would serve; the daemon knows what does.
			s.Models[i].Serving = 0
			if m := u.Status(); m.State == modelServing {
				s.Models[i].Serving = m.Release
			}
		}
	}
	return s, nil
}
