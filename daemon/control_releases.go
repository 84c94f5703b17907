package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/sightd/sightd/release"
)

// servingID stands on the control socket for the release that serves, whichever it
// is.
const servingID = "serving"

// maxWhy is how many bytes the reason of a roll-back may have.
const maxWhy = 1000

// refusal is the body of every answer on the control socket that isn't a success.
type refusal struct {
	Code   release.Code `json:"code"` // empty: nothing that is wrong with a release
	Reason string       `json:"reason"`
}

// Installed is what became of a release that was sent.
type Installed struct {
	Name    string        `json:"name"` // of the model
	Release release.Entry `json:"release"`
	Already bool          `json:"already,omitempty"` // the very same was there before, so nothing was done
}

// RolledBack is what a roll-back did.
type RolledBack struct {
	Name string     `json:"name"` // of the model
	From release.ID `json:"from"`
	To   release.ID `json:"to"`
}

// unknownError is the error of a model or release that isn't there.
type unknownError struct{ error }

func refuse(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	var large *http.MaxBytesError
	var unknown unknownError
	switch {
	case errors.As(err, &large):
		status = http.StatusRequestEntityTooLarge
	case errors.As(err, &unknown):
		status = http.StatusNotFound
	case release.CodeOf(err) != "":
		status = http.StatusUnprocessableEntity
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(refusal{release.CodeOf(err), err.Error()}) // the client went away
}

func (d *Daemon) controlInstall(w http.ResponseWriter, r *http.Request) {
	hold := false
	if text := r.URL.Query().Get("hold"); text != "" {
		var err error
		if hold, err = strconv.ParseBool(text); err != nil {
			refuse(w, fmt.Errorf("hold=%.20s: want true or false", text))
			return
		}
	}
	done, err := d.install(http.MaxBytesReader(w, r.Body, maxRelease), hold)
	if err != nil {
		refuse(w, err)
		return
	}
	writeJSON(w, done)
}

// install takes a release, packed as .tar.zst, into the store and, unless it is to be
// held, has its model go over to it when it is ready. The same release once more
// changes nothing.
func (d *Daemon) install(archive io.Reader, hold bool) (*Installed, error) {
	rel, err := d.store.OpenArchive("the release sent", archive)
	if err != nil {
		return nil, err
	}
	defer rel.Close()
	name, id := rel.Spec.Name, rel.ID()
	entry, err := d.take(rel, release.Options{Hold: hold, Asked: true})
	var known *release.Installed
	switch {
	case errors.As(err, &known):
		return &Installed{Name: name, Release: known.Entry, Already: true}, nil
	case err != nil:
		d.log.Warn("release refused", "model", name, "release", id, "code", release.CodeOf(err), "err", err)
		return nil, err
	}
	d.log.Info("release installed", "model", name, "release", id, "held", hold)
	return &Installed{Name: name, Release: *entry}, nil
}

func (d *Daemon) controlRelease(w http.ResponseWriter, r *http.Request) {
	name, id, err := d.named(r)
	if err != nil {
		refuse(w, err)
		return
	}
	all, err := d.Releases()
	if err != nil {
		refuse(w, err)
		return
	}
	info, err := Describe(d.store, d.cfg, d.opts.Version, all, name, id)
	if err != nil {
		refuse(w, err)
		return
	}
	writeJSON(w, info)
}

func (d *Daemon) controlActivate(w http.ResponseWriter, r *http.Request) {
	name, id, err := d.named(r)
	if err == nil {
		err = d.activate(name, id)
	}
	if err != nil {
		refuse(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (d *Daemon) controlRollBack(w http.ResponseWriter, r *http.Request) {
	name, id, err := d.named(r)
	if err != nil {
		refuse(w, err)
		return
	}
	reason := r.URL.Query().Get("reason")
	if len(reason) > maxWhy {
		refuse(w, fmt.Errorf("the reason has %d bytes, at most %d are taken", len(reason), maxWhy))
		return
	}
	if err := d.rollBack(r.Context(), name, id, reason); err != nil {
		refuse(w, err)
		return
	}
	done := RolledBack{Name: name, From: id}
	// The store knows already what is to serve; the engine may take a moment.
	if all, err := d.store.Status(d.factoryNumbers()); err == nil {
		if m, err := FindModel(all, name); err == nil {
			done.To = m.ServingID()
		}
	}
	writeJSON(w, done)
}

func (d *Daemon) controlRemove(w http.ResponseWriter, r *http.Request) {
	name, id, err := d.named(r)
	if err == nil {
		err = d.remove(name, id)
	}
	if err != nil {
		refuse(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// named is the release that a request's path names.
func (d *Daemon) named(r *http.Request) (name string, id release.ID, err error) {
	name = r.PathValue("name")
	all, err := d.Releases()
	if err != nil {
		return "", release.ID{}, err
	}
	if text := r.PathValue("id"); text != servingID {
		id, err = release.ParseID(text)
		if err != nil {
			return "", release.ID{}, err
		}
	}
	m, err := FindModel(all, name)
	if err != nil {
		return "", release.ID{}, err
	}
	if id == (release.ID{}) {
		if id = m.ServingID(); id == (release.ID{}) {
			return "", release.ID{}, fmt.Errorf("no release of %s serves", name)
		}
	}
	if _, err := FindRelease(m, id); err != nil {
		return "", release.ID{}, err
	}
	return name, id, nil
}
