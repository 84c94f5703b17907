package main

import (
	"crypto/sha256"
	"encoding/json"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sightd/sightd/release"
)

func sha256Of(text string) [sha256.Size]byte { return sha256.Sum256([]byte(text)) }

// paths are those of the files below a folder.
func (v *victim) paths(dir string) (all []string) {
	v.must(fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			all = append(all, path)
		}
		return err
	}))
	return all
}

func shuffled(all []string, seed uint64) []string {
	rand.New(rand.NewPCG(seed, 1)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// autopsy looks at what the killed daemon has left, while nobody runs.
func (v *victim) autopsy() {
	v.Helper()
	entries, err := v.store.List("tiny")
	if err != nil {
		v.Errorf("kill %d: %v", v.kill, err)
		return
	}
	v.phases[v.phase(entries)]++
	dirs, _ := os.ReadDir(filepath.Join(v.dir, "state/releases/tiny")) // there is none before the first drop
	for _, d := range dirs {
		id, err := release.ParseID(d.Name())
		if err != nil {
			if d.Name() != "state.json" && !strings.HasPrefix(d.Name(), ".state.json") {
				v.Errorf("kill %d: it left %s among the releases", v.kill, d.Name())
			}
			continue
		}
		rel, err := v.store.Get("tiny", id)
		if err != nil {
			v.Errorf("kill %d: release %s isn't whole: %v\n%s", v.kill, id, err, v.log)
			continue
		}
		rel.Close()
	}
	v.looksAtState(entries)
}

// looksAtState holds state.json to name no release that isn't there, and to forget
// nothing.
func (v *victim) looksAtState(entries []release.Entry) {
	v.Helper()
	var m struct {
		Highest int        `json:"highest"`
		Serving release.ID `json:"serving"`
	}
	raw, err := os.ReadFile(filepath.Join(v.dir, "state/releases/tiny/state.json"))
	if err != nil {
		return // not yet
	}
	v.must(json.Unmarshal(raw, &m))
	if m.Highest < v.highest {
		v.Errorf("kill %d: the highest number was %d and is %d", v.kill, v.highest, m.Highest)
	}
	v.highest = m.Highest
	if m.Serving == (release.ID{}) {
		return // the factory release does
	}
	if _, err := os.Stat(filepath.Join(v.dir, "state/releases/tiny", m.Serving.String())); err != nil {
		v.Errorf("kill %d: release %s serves, but: %v", v.kill, m.Serving, err)
	}
	if !slices.ContainsFunc(entries, func(e release.Entry) bool {
		return e.ID() == m.Serving && (e.State == release.Serving || e.State == release.Confirmed)
	}) {
		v.Errorf("kill %d: release %s serves, but its state is another: %+v", v.kill, m.Serving, entries)
	}
}

var phases = map[string]string{
	"drop installed": "installed", "preparing": "build: preparing", "building": "build", "built": "build", "proving": "proof", "proven": "swap",
	"serving": "idle", "release rolled back": "roll-back", "release confirmed": "idle",
}

var message = regexp.MustCompile(`(?m)^time=\S+ level=\S+ msg=("[^"]*"|\S+)`)

// phase is what the daemon was doing when it was killed, as far as its log and what lies
// there tell.
func (v *victim) phase(entries []release.Entry) string {
	staged := v.staged()
	for _, s := range staged {
		switch {
		case strings.HasPrefix(s.Name(), "install-"):
			return "install"
		case strings.HasPrefix(s.Name(), "discard-"):
			return "prune"
		}
	}
	if len(staged) > 0 {
		return "verify"
	}
	log := v.log.String()
	if !strings.Contains(log, "msg=serving") {
		return "start"
	}
	last := "idle"
	for _, m := range message.FindAllStringSubmatch(log, -1) {
		if phase, ok := phases[strings.Trim(m[1], `"`)]; ok {
			last = phase
		}
	}
	if last != "idle" {
		return last
	}
	for _, d := range v.drops {
		if r := v.result(d); r.State == "" || r.State == release.Received {
			return "drop"
		}
	}
	for _, e := range entries {
		if e.State == release.Serving {
			return "probation"
		}
	}
	return last
}

// settles has the daemon live on: every drop comes to an end.
func (v *victim) settles() {
	v.Helper()
	v.start()
	defer func() { v.dies(true) }()
	if !v.serves() {
		return
	}
	waits := []string{""}
	for until := time.Now().Add(2 * time.Minute); len(waits) > 0 && time.Now().Before(until); time.Sleep(50 * time.Millisecond) {
		waits = nil
		for _, d := range v.drops {
			if why := v.over(d); why != "" {
				waits = append(waits, why)
			}
		}
		// What was rejected is looked at again after each start.
		for _, left := range v.staged() {
			waits = append(waits, "staging holds "+left.Name())
		}
	}
	if len(waits) > 0 {
		v.Errorf("after two minutes this is still under way:\n%s\n%s", strings.Join(waits, "\n"), v.log)
		return
	}
	for _, d := range v.drops {
		v.wantEnd(d, v.result(d))
	}
}
