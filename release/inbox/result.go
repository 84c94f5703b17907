package inbox

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sightd/sightd/release"
)

// ResultSuffix follows a drop's name in that of the file beside it that says what
// became of it.
const ResultSuffix = ".result.json"

// Result is what became of a drop.
type Result struct {
	Drop     string        `json:"drop"` // its name in the inbox
	State    release.State `json:"state"`
	Code     release.Code  `json:"code"`               // why it is rejected, or what it waits for
	Reason   string        `json:"reason"`             // the same for people
	Name     string        `json:"name,omitempty"`     // of the model; as the drop says, where it was rejected
	Number   int           `json:"number,omitempty"`   // of the release
	Revision int64         `json:"revision,omitempty"` // its revision
	Held     bool          `json:"held,omitempty"`     // it waits for somebody to activate it
	Degraded bool          `json:"degraded,omitempty"` // it should be rolled back, but there is nothing to go back to
	Since    time.Time     `json:"since"`

	known    bool // it was installed before, so there is no news in it
	followed bool // the release's state is told by who serves it, too
}

// Status is what an inbox says of itself.
type Status struct {
	Dir        string                  `json:"dir"`
	Error      string                  `json:"error,omitempty"` // why it isn't read, watched or written
	Staged     uint64                  `json:"staged"`          // drops that were installed, since the start
	Rejected   map[release.Code]uint64 `json:"rejected"`        // at once or later, since the start
	Confirmed  uint64                  `json:"confirmed"`       // likewise
	RolledBack map[release.Code]uint64 `json:"rolled_back"`     // likewise
	Drops      []Result                `json:"drops"`           // that are there, by name
}

// Status may be called at any time.
func (i *Inbox) Status() Status {
	i.mu.Lock()
	defer i.mu.Unlock()
	s := i.status
	s.Rejected, s.RolledBack = maps.Clone(s.Rejected), maps.Clone(s.RolledBack)
	s.Drops = append([]Result{}, s.Drops...)
	return s
}

// publish brings the status up to date with the drops.
func (i *Inbox) publish() {
	all := []Result{}
	for _, d := range i.drops {
		if d.result.State != "" {
			all = append(all, d.result)
		}
	}
	slices.SortFunc(all, func(a, b Result) int { return cmp.Compare(a.Drop, b.Drop) })
	i.mu.Lock()
	same := slices.Equal(i.status.Drops, all)
	i.status.Drops = all
	i.mu.Unlock()
	if !same {
		nudge(i.news)
	}
}

// Latest are the results that changed last, the last one first, at most so many.
func (s Status) Latest(most int) []Result {
	all := append([]Result{}, s.Drops...)
	slices.SortStableFunc(all, func(a, b Result) int { return b.Since.Compare(a.Since) })
	return all[:min(most, len(all))]
}

// tell makes a result known, once: last by the file beside the drop, so that who
// waits for that finds it everywhere.
func (i *Inbox) tell(root *os.Root, d *drop, r Result) {
	before := d.result
	r.Since, before.known, before.followed = before.Since, r.known, r.followed
	if before == r {
		return
	}
	r.Since = i.o.wall().UTC().Truncate(time.Second)
	d.result = r
	i.log(d, r)
	i.count(d, r)
	i.publish()
	i.write(root, d)
}

// count counts each end of a drop once, whatever its release goes through in
// between.
func (i *Inbox) count(d *drop, r Result) {
	counted := d.ends[r.State]
	if d.ends == nil {
		d.ends = map[release.State]bool{}
	}
	d.ends[r.State] = true
	if counted || r.known {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	switch r.State {
	case release.Confirmed:
		i.status.Confirmed++
	case release.RolledBack:
		i.status.RolledBack[r.Code]++
	case release.Staged:
		i.status.Staged++
	case release.Rejected:
		i.status.Rejected[r.Code]++
	}
}

// log has a line for each end of a drop, and one for each kind of thing that it
// waits for.
func (i *Inbox) log(d *drop, r Result) {
	attrs := []any{"drop", r.Drop}
	if r.Name != "" {
		attrs = append(attrs, "model", r.Name, "release", r.Number)
	}
	switch {
	case r.known, r.followed:
	case r.State == release.Rejected:
		i.o.Log.Warn("drop rejected", append(attrs, "code", r.Code, "err", r.Reason)...)
	case r.State == release.Staged:
		i.o.Log.Info("drop installed", attrs...)
	case r.State == release.Received && r.Reason != "" && !d.said[r.Code]:
		d.said[r.Code] = true
		i.o.Log.Info("drop waits", append(attrs, "code", r.Code, "reason", r.Reason)...)
		return
	default:
		return
	}
	clear(d.said)
}

// write puts a drop's result beside it. Where that fails it is tried again with
// each scan.
func (i *Inbox) write(root *os.Root, d *drop) {
	err := writeResult(root, d.result)
	d.unsaid = err != nil
	if err != nil {
		err = fmt.Errorf("write results into the inbox: %w: give sightd's user the right to write there", cause(err))
	}
	i.say("write", err)
}

// cause leaves out the name of the temporary file, so that the same failure reads
// the same.
func cause(err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

func writeResult(root *os.Root, r Result) (err error) {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	dir, err := root.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	name := r.Drop + ResultSuffix
	temp := "." + name + tempMark + strconv.FormatUint(rand.Uint64(), 36)
	f, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = root.Remove(temp)
		}
	}()
	_, err = f.Write(append(b, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	// Neither end is looked up through links: both are names in the inbox.
	return unix.Renameat(int(dir.Fd()), temp, int(dir.Fd()), name)
}

const tempMark = ".sightd-"

// isTemp is whether a name in the inbox is that of a result which an
// interruption kept from being written.
func isTemp(name string) bool {
	return strings.HasPrefix(name, ".") && strings.Contains(name, ResultSuffix+tempMark)
}
