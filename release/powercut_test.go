package release

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sightd/sightd/internal/durable"
	"github.com/sightd/sightd/internal/durable/durabletest"
)

// act is something that is done with a store, and reported done.
type act struct {
	what string
	do   func(b *dropBox)
}

func call(what string, f func(b *dropBox) error) act {
	return act{what, func(b *dropBox) { b.t.Helper(); b.must(f(b)) }}
}

// Of the releases 2 to 9, most of what can become of a release is told.
func longStory() []act {
	installed := func(n int, o Options) act {
		return act{fmt.Sprint("install ", n), func(b *dropBox) { b.installs(n, o) }}
	}
	served := func(n int) []act {
		return []act{
			call("built", func(b *dropBox) error { return b.Built("tiny", id(n)) }),
			call("try", func(b *dropBox) error { return b.Try("tiny", id(n), "boot 1") }),
			call("proven", func(b *dropBox) error { return b.Proven("tiny", id(n), 12) }),
			call("serve", func(b *dropBox) error { return b.Serve("tiny", id(n), b.factory, "boot 1") }),
			call("probation", func(b *dropBox) error { return b.Probation("tiny", id(n), 60) }),
		}
	}
	confirmed := func(n int) act {
		return call(fmt.Sprint("confirm ", n), func(b *dropBox) error { return b.Confirm("tiny", id(n)) })
	}
	back := func(n int, code Code) act {
		return call(fmt.Sprint("roll back ", n), func(b *dropBox) error {
			_, err := b.RollBack("tiny", id(n), b.factory, code, "why")
			return err
		})
	}
	return slices.Concat(
		[]act{installed(2, Options{})}, served(2), []act{confirmed(2)},
		[]act{dropReceived(3, false)}, served(3), []act{back(3, Crashed), call("activate", func(b *dropBox) error { return b.Activate("tiny", id(3)) })},
		served(3), []act{confirmed(3), installed(4, Options{Hold: true}), dropReceived(5, true)},
		[]act{call("hold", func(b *dropBox) error { return b.Hold("tiny", id(5), "manual") })},
		served(4), []act{back(4, ByHand)},
		[]act{
			call("reject", func(b *dropBox) error { return b.Reject("tiny", id(5), ProofFailed, "why") }),
			{"single file", func(b *dropBox) {
				b.puts("tiny.cache", tinyCache(b.t), 7)
				b.takes("tiny.cache", b.trusts())
			}},
			call("rest", func(b *dropBox) error { return b.Rest("tiny", 70) }),
			call("remove 5", func(b *dropBox) error { return b.Remove("tiny", id(5), b.factory) }),
			call("prune", func(b *dropBox) error { _, err := b.Prune("tiny", 0, b.factory); return err }),
			call("install 2 again, with allow_downgrade", func(b *dropBox) error {
				_, err := b.Install(opened(b.t, packed(b.t, "release: 1", "release: 1\nallow_downgrade: true")), takesAll, Options{Factory: 3})
				return err
			}),
		},
	)
}

// tinyCache is a calibration cache that fits and isn't that of the small release.
func tinyCache(t *testing.T) string {
	return strings.Replace(read(t, filepath.Join(tiny, "calib.cache")), "scores: 3d8102", "scores: 3d8103", 1)
}

// dropReceived is the install of what came through the inbox.
func dropReceived(n int, archive bool) act {
	return act{fmt.Sprint("receive ", n), func(b *dropBox) {
		name := fmt.Sprint("drop-", n)
		r := opened(b.t, numbered(b.t, n))
		if archive {
			var file bytes.Buffer
			b.must(r.WriteArchive(&file))
			name += ArchiveSuffix
			write(b.t, b.at(name), file.String())
		} else {
			b.must(os.CopyFS(b.at(name), os.DirFS(r.dir)))
		}
		root, err := os.OpenRoot(b.dir)
		b.must(err)
		defer root.Close()
		got, _, err := b.Receive(b.t.Context(), root, name, takesAll, nil)
		b.must(err)
		_, err = b.Install(got, takesAll, Options{Factory: b.factory})
		b.must(err)
		b.must(got.Close())
	}}
}

// A power cut before any of the store's writes, whatever it leaves of what was not
// synced: the next start finds each release as it was before that write's doing or as it
// is after it, whole, and what was reported done is done.
func TestAPowerCutAtAnyWriteLeavesTheStoryBeforeOrAfter(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tree := durabletest.NewTree(t, dir)
	state := filepath.Join(dir, "state")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(state, 0o755)) // as somebody else would, who doesn't sync it
	store, err := OpenStore(state)
	must(err)
	store.tree = tree
	b := &dropBox{story: &story{store, t, 1}, signer: newSigner(t), dir: t.TempDir()}

	cuts, looked := 0, map[string]string{} // what was found after those of an act, and when
	cutNow := func(when string) {
		t.Helper()
		for name, left := range durabletest.Lefts {
			cuts++
			files, err := tree.PowerCut(left)
			must(err)
			// Whatever lies in staging is removed, so that one look there will do.
			maps.DeleteFunc(files, func(path, _ string) bool {
				return strings.HasPrefix(path, "state/staging/") && len(looked) > 3
			})
			what := fmt.Sprint(files)
			if _, done := looked[what]; done {
				continue
			}
			looked[what] = ""
			to := filepath.Join(t.TempDir(), "after")
			must(durabletest.Write(to, files))
			looked[what] = newlyStarted(t, filepath.Join(to, "state")) + "\n" + when + "; there is " + name
			must(os.RemoveAll(to))
		}
	}
	tree.Fail = func(op, path string) error {
		cutNow("before " + op + " of " + path)
		return nil
	}
	before := newlyStarted(t, copied(t, state))
	for _, a := range longStory() {
		a.do(b)
		after := newlyStarted(t, copied(t, state))
		wants := func(any ...string) {
			t.Helper()
			for _, l := range looked {
				if found, when, _ := strings.Cut(l, "\n"); !slices.Contains(any, found) {
					t.Errorf("%s, cut %s: found\n%s\nwanted one of\n%s", a.what, when, found, strings.Join(any, "\n"))
				}
			}
			clear(looked)
		}
		wants(before, after)
		cutNow("when it was done")
		wants(after)
		before = after
		if t.Failed() {
			return
		}
	}
	if cuts < 1000 {
		t.Errorf("only %d cuts", cuts)
	}
}

func copied(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// unsynced is a disk that nothing is synced on.
type unsynced struct{ durable.Disk }

type unsyncedFile struct{ durable.File }

func (unsyncedFile) Sync() error { return nil }

func (u unsynced) SyncDir(string) error  { return nil }
func (u unsynced) SyncFile(string) error { return nil }

func (u unsynced) Create(path string, perm os.FileMode) (durable.File, error) {
	f, err := u.Disk.Create(path, perm)
	return unsyncedFile{f}, err
}

// newlyStarted is what a daemon finds in a state directory after the machine has been
// started anew: what there is to do, and what became of each release. All releases
// that are there are whole, and the next one can be installed.
func newlyStarted(t *testing.T, dir string) string {
	t.Helper()
	s, err := OpenStore(dir)
	if err == nil {
		s.tree = unsynced{} // which takes long, and the power stays
		err = s.Clean()
	}
	if err == nil {
		_, err = s.Recover("tiny", 1, "boot 2")
	}
	if err != nil {
		return "broken: " + err.Error()
	}
	if left, err := os.ReadDir(s.staging()); len(left) > 0 || err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Sprintf("staging holds %v, %v", left, err)
	}
	dirs, _ := os.ReadDir(filepath.Join(dir, "releases", "tiny"))
	for _, d := range dirs {
		id, err := ParseID(d.Name())
		if err != nil {
			continue
		}
		r, err := s.Get("tiny", id)
		if err != nil {
			return "not whole: " + err.Error()
		}
		r.Close()
	}
	m, err := s.read("tiny")
	if err != nil {
		return "broken: " + err.Error()
	}
	found := fmt.Sprintf("highest %d, confirmed %v, %s", m.Highest, m.Confirmed, (&story{s, t, 1}).tells())
	if _, err := s.Install(opened(t, numbered(t, 99)), takesAll, Options{Factory: 1}); err != nil {
		return "nothing can be installed: " + err.Error()
	}
	return found
}
