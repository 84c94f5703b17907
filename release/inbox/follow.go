package inbox

import (
	"io/fs"
	"os"

	"github.com/sightd/sightd/release"
)

// installed names a release in the store.
type installed struct {
	name string
	id   release.ID
}

// Tell says what has become of a release in the store, so that the result of the
// drop that it came by follows. It never waits: of several entries of a release
// that aren't looked at yet, the last counts.
func (i *Inbox) Tell(name string, e release.Entry) {
	i.mu.Lock()
	if len(i.told) >= maxDrops {
		clear(i.told) // each scan asks the store
	}
	i.told[installed{name, e.ID()}] = e
	i.mu.Unlock()
	nudge(i.woken)
}

// News gets a value when the status has changed; several changes may come as one.
// It has one receiver.
func (i *Inbox) News() <-chan struct{} { return i.news }

func nudge(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// installed notes which release came of a drop, and in which state it is. One that
// was known before is no news.
func (i *Inbox) installed(root *os.Root, d *drop, r Result, e release.Entry, known bool) {
	d.is, d.hash = installed{r.Name, e.ID()}, e.Manifest
	if r.known = known; known {
		d.ends[release.Staged] = true
	}
	i.tell(root, d, r.of(e))
}

// of is the result with what became of the release.
func (r Result) of(e release.Entry) Result {
	r.Number, r.Revision = e.Number, e.Revision
	r.State, r.Code, r.Reason, r.Held, r.Degraded = e.State, e.Code, e.Reason, e.Held, e.Degraded
	return r
}

// follow has the results of drops say what was told of their releases.
func (i *Inbox) follow() {
	i.mu.Lock()
	told := i.told
	i.told = map[installed]release.Entry{}
	i.mu.Unlock()
	var root *os.Root
	for _, d := range i.drops {
		e, ok := told[d.is]
		if !ok {
			continue
		}
		if root == nil {
			var err error
			if root, err = openRoot(i.o.Dir); err != nil {
				return // which the next scan says, and that asks the store
			}
			defer root.Close()
		}
		i.became(root, d, e)
	}
}

// ask is follow with what the store says: after a start, or where nobody told.
func (i *Inbox) ask(root *os.Root) {
	asked := map[string][]release.Entry{}
	for _, d := range i.drops {
		name := d.is.name
		if name == "" {
			continue
		}
		entries, ok := asked[name]
		if !ok {
			entries, _ = i.o.Store.List(name) // who serves the model says what is wrong there
			asked[name] = entries
		}
		for _, e := range entries {
			if e.ID() == d.is.id {
				i.became(root, d, e)
			}
		}
	}
}

// became tells the state of a drop's release, unless the number is another one's by
// now.
func (i *Inbox) became(root *os.Root, d *drop, e release.Entry) {
	if e.State == release.Verified || d.hash != "" && e.Manifest != "" && d.hash != e.Manifest {
		return
	}
	r := d.result
	r.known, r.followed = false, true
	i.tell(root, d, r.of(e))
}

// resultThere is whether something said what became of a drop before.
func resultThere(root *os.Root, name string) bool {
	info, err := root.Lstat(name + ResultSuffix)
	return err == nil && info.Mode().Type() == fs.FileMode(0)
}
