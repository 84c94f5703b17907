package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sightd/sightd/mqtt"
	"github.com/sightd/sightd/release"
)

// Policy is what this device takes, by its configuration.
func (c *Config) Policy(version string) release.Policy {
	p := release.Policy{
		Device: c.Device, Module: Module(), Version: version,
		RequireSignature: c.Releases.RequireSignature, Revoked: c.Releases.Revoked,
		AllowUnsignedEngines: c.Releases.AllowUnsignedEngines,
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

	contents func() (map[release.FileInfo]string, error) // its files, hashed once; nil: there are none
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
	f.contents = sync.OnceValues(f.rel.Contents)
	return f
}

// number is the factory release's, or 0.
func (f factory) number() int {
	if f.rel == nil {
		return 0
	}
	return f.rel.Spec.Release
}

// candidates are the releases of a model: those that are to be proven, newest first,
// and those that may serve at once, best first.
func (d *Daemon) candidates(name string) (pending, trusted []*release.Release, err error) {
	own := d.factories[name]
	failures := []error{own.err}
	var plan release.Plan
	if d.opts.factory != nil {
		return nil, []*release.Release{own.rel}, nil
	}
	if plan, err = d.store.Plan(name, own.number()); err != nil {
		d.log.Error("installed releases can't be read", "model", name, "err", err)
		failures = append(failures, err)
		if own.rel != nil {
			plan.Serve = []release.Entry{{Factory: true}}
		}
	}
	open := func(entries []release.Entry) (all []*release.Release) {
		for _, e := range entries {
			if e.Factory {
				all = append(all, own.rel)
				continue
			}
			rel, err := d.store.Get(name, e.ID())
			if err != nil {
				d.log.Error("installed release can't be used", "model", name, "release", e.ID(), "err", err)
				failures = append(failures, err)
				continue
			}
			all = append(all, rel)
		}
		return all
	}
	pending, trusted = open(plan.Pending), open(plan.Serve)
	if len(pending)+len(trusted) > 0 {
		return pending, trusted, nil
	}
	if err := errors.Join(failures...); err != nil {
		return nil, nil, fmt.Errorf("model %s: %w", name, err)
	}
	return nil, nil, fmt.Errorf("model %s: no release is installed and the configuration names no factory release: set models[].release, or `sightd release install` one", name)
}

// progress tells the subscribers what is being done for a release on its way.
func (d *Daemon) progress(rel *release.Release, r mqtt.Release) {
	r.Release, r.Revision = rel.Spec.Release, rel.ID().Revision
	if r.State == "" {
		r.State = string(release.Staged)
		if u, err := d.unit(rel.Spec.Name); err == nil {
			if e, err := u.life.entry(rel); err == nil && !e.Factory {
				r.State = string(e.State)
			}
		}
	}
	d.sayRelease(rel.Spec.Name, r)
}

func (d *Daemon) sayRelease(name string, r mqtt.Release) {
	if r.Since.IsZero() {
		r.Since = mqtt.Time{Time: time.Now()}
	}
	if u, err := d.unit(name); err == nil {
		r.Serving, r.ServingRevision = u.serves()
	}
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // text and numbers
	}
	d.say.SetState(mqtt.TopicRelease(name), b)
}

// unit is that of a configured model.
func (d *Daemon) unit(name string) (*unit, error) {
	i := slices.IndexFunc(d.units, func(u *unit) bool { return u.name == name })
	if i < 0 {
		return nil, &release.Rejection{Code: release.UnknownModel, Err: fmt.Errorf("the configuration has no model %s: add it under models", name)}
	}
	return d.units[i], nil
}

// take puts a release, however it came, into the store and has its model go over
// to it when it is ready. It logs nothing: who brought the release does.
func (d *Daemon) take(rel *release.Release, o release.Options) (*release.Entry, error) {
	name := rel.Spec.Name
	u, err := d.unit(name)
	if err != nil {
		return nil, err
	}
	d.installing.Lock()
	defer d.installing.Unlock()
	o.Factory = d.factories[name].number()
	entry, err := d.store.Install(rel, d.cfg.Policy(d.opts.Version), o)
	if err != nil {
		return nil, err
	}
	u.life.tell(*entry)
	installed, err := u.life.get(entry.ID())
	if err != nil { // it is in the store all the same
		d.log.Error("installed release can't be opened yet", "model", name, "release", entry.ID(), "err", err)
		u.late.add(entry.ID())
		return entry, nil
	}
	u.offer(installed)
	return entry, nil
}

// activate has a held release serve when it is ready, and one that was rejected or
// rolled back tried again.
func (d *Daemon) activate(name string, id release.ID) error {
	u, err := d.unit(name)
	if err != nil {
		return err
	}
	d.installing.Lock()
	defer d.installing.Unlock()
	// Where it isn't in the store, Activate knows what to say.
	rel, getErr := d.store.Get(name, id)
	if getErr == nil {
		if err := u.life.admits(rel); err != nil {
			return err
		}
	}
	if err := d.store.Activate(name, id); err != nil {
		return err
	}
	if getErr != nil {
		return getErr
	}
	d.log.Info("release activated", "model", name, "release", id)
	if e, err := u.life.entry(rel); err == nil {
		u.life.tell(e)
	}
	u.offer(rel)
	return nil
}

// rollBack leaves the release that serves, which must be that of the ID unless that is
// none, for the last confirmed one.
func (d *Daemon) rollBack(ctx context.Context, name string, id release.ID, reason string) error {
	u, err := d.unit(name)
	if err != nil {
		return err
	}
	return u.leave(ctx, id, reason)
}

// remove removes a release that nothing needs.
func (d *Daemon) remove(name string, id release.ID) error {
	d.installing.Lock()
	defer d.installing.Unlock()
	if err := d.store.Remove(name, id, d.factories[name].number()); err != nil {
		return err
	}
	d.log.Info("release removed", "model", name, "release", id)
	if u, err := d.unit(name); err == nil { // else it is of a model that was configured once
		u.forget(id)
	}
	return nil
}

// factoryNumbers are the numbers of the models' factory releases, 0 for none.
func (d *Daemon) factoryNumbers() map[string]int {
	numbers := map[string]int{}
	for name, f := range d.factories {
		numbers[name] = f.number()
	}
	return numbers
}

// entries is what is known of a model's releases, by number and revision: those in the
// store, and the factory release unless the store has one of its number.
func (d *Daemon) entries(name string) ([]release.Entry, error) {
	all, err := d.store.List(name)
	if err != nil {
		return nil, err
	}
	n := d.factories[name].number()
	i, found := slices.BinarySearchFunc(all, release.ID{Number: n}, func(e release.Entry, id release.ID) int { return e.ID().Compare(id) })
	if n > 0 && !found {
		all = slices.Insert(all, i, release.Entry{Number: n, State: release.Confirmed, Factory: true})
	}
	return all, nil
}

// Releases returns what is installed and what became of it.
func (d *Daemon) Releases() (*release.Status, error) {
	s, err := d.store.Status(d.factoryNumbers())
	if err != nil {
		return nil, err
	}
	for i := range s.Models {
		for _, u := range d.units {
			if u.name != s.Models[i].Name {
				continue
			}
			// The store says what would serve; the daemon knows what does.
			s.Models[i].Serving, s.Models[i].Revision = 0, 0
			if m := u.Status(); m.State == modelServing {
				s.Models[i].Serving, s.Models[i].Revision = m.Release, m.Revision
			}
		}
	}
	return s, nil
}
