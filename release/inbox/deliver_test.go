package inbox

import (
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/sightd/sightd/release"
)

// deliveries are the ways by which releases come: each leaves the one in dir as
// drop in the inbox.
var deliveries = map[string]func(t *testing.T, dir string, b *box){
	"rename": func(t *testing.T, dir string, b *box) { must(t, os.Rename(dir, b.path("drop"))) },
	"cp -r":  func(t *testing.T, dir string, b *box) { run(t, "cp", "-r", dir, b.path("drop")) },
	"rsync": func(t *testing.T, dir string, b *box) {
		if _, err := exec.LookPath("rsync"); err != nil {
			t.Skip("rsync isn't installed; how it names its files is tried without it")
		}
		run(t, "rsync", "-a", dir+"/", b.path("drop"))
	},
	"temporary names, as rsync's": func(t *testing.T, dir string, b *box) {
		must(t, os.Mkdir(b.path("drop"), 0o755))
		for _, name := range files(t, dir) {
			must(t, os.MkdirAll(filepath.Dir(b.path("drop", name)), 0o755))
			temp := filepath.Join(filepath.Dir(b.path("drop", name)), "."+filepath.Base(name)+".x7dK2f")
			slowly(t, filepath.Join(dir, name), temp)
			must(t, os.Rename(temp, b.path("drop", name)))
		}
	},
	"slow copy, manifest first": func(t *testing.T, dir string, b *box) {
		all := files(t, dir)
		i := slices.Index(all, release.ManifestName)
		all[0], all[i] = all[i], all[0]
		for _, name := range all {
			slowly(t, filepath.Join(dir, name), b.path("drop", name))
		}
	},
	"slow copy, manifest last": func(t *testing.T, dir string, b *box) {
		all := files(t, dir)
		i := slices.Index(all, release.ManifestName)
		all = append(slices.Delete(all, i, i+1), release.ManifestName)
		for _, name := range all {
			slowly(t, filepath.Join(dir, name), b.path("drop", name))
		}
	},
	"written in place over what was there": func(t *testing.T, dir string, b *box) {
		for _, name := range files(t, dir) {
			info, err := os.Stat(filepath.Join(dir, name))
			must(t, err)
			write(t, b.path("drop", name), string(make([]byte, info.Size())))
		}
		for _, name := range files(t, dir) {
			slowly(t, filepath.Join(dir, name), b.path("drop", name))
		}
	},
	"symlink swap": func(t *testing.T, dir string, b *box) {
		must(t, os.Mkdir(b.path(".one"), 0o755))
		must(t, os.Symlink(".one", b.path("drop")))
		b.wait(t, "drop", release.Received, release.MissingFile)
		must(t, os.Rename(dir, b.path(".two")))
		must(t, os.Symlink(".two", b.path(".new")))
		must(t, os.Rename(b.path(".new"), b.path("drop")))
	},
	"links to a store inside": func(t *testing.T, dir string, b *box) {
		must(t, os.Rename(dir, b.path(".blobs")))
		for _, name := range files(t, b.path(".blobs")) {
			up, err := filepath.Rel(filepath.Dir(b.path("drop", name)), b.path(".blobs", name))
			must(t, err)
			must(t, os.MkdirAll(filepath.Dir(b.path("drop", name)), 0o755))
			must(t, os.Symlink(up, b.path("drop", name)))
		}
	},
	"before the directory was deleted and made again": func(t *testing.T, dir string, b *box) {
		must(t, os.RemoveAll(b.dir))
		eventually(t, "that it is gone is told", func() bool { return b.Status().Error != "" })
		must(t, os.Mkdir(b.dir, 0o755))
		eventually(t, "that it is there again is told", func() bool { return b.Status().Error == "" })
		must(t, os.Rename(dir, b.path("drop")))
	},
	"directory exchanged for another": func(t *testing.T, dir string, b *box) {
		must(t, os.Rename(b.dir, b.dir+".old"))
		must(t, os.Mkdir(b.dir, 0o755))
		must(t, os.Rename(dir, b.path("drop")))
	},
}

// slowly writes a file in pieces, each synced, so that others see parts of it.
func slowly(t *testing.T, from, to string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(to), 0o755))
	in, err := os.Open(from)
	must(t, err)
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o644)
	must(t, err)
	defer out.Close()
	info, err := in.Stat()
	must(t, err)
	for {
		_, err := io.CopyN(out, in, info.Size()/3+1)
		time.Sleep(25 * time.Millisecond)
		if err == io.EOF {
			return
		}
		must(t, err)
	}
}

func files(t *testing.T, dir string) (all []string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(at string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel(dir, at)
			all = append(all, name)
		}
		return err
	}))
	return all
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
}

func TestADropIsInstalledHoweverItComes(t *testing.T) {
	t.Parallel()
	for kind, noEvents := range map[string]bool{"by events": false, "by the scan alone": true} {
		for _, name := range slices.Sorted(maps.Keys(deliveries)) {
			t.Run(name+" "+kind, func(t *testing.T) {
				t.Parallel()
				o := quick()
				if o.NoEvents = noEvents; noEvents {
					o.Rescan = 20 * time.Millisecond
				}
				o.Return = 10 * time.Millisecond
				o.Patience = time.Hour // whatever comes late, nothing is rejected on the way
				b := open(t, o)
				eventually(t, "it is watched", func() bool { _, err := os.Stat(b.dir); return err == nil })
				dir := packed(t, 7)
				want := archive(t, dir)
				deliveries[name](t, dir, b)
				r := b.wait(t, "drop", release.Staged, "")
				rel, err := b.store.Get(r.Name, release.ID{Number: 7})
				must(t, err)
				if got := archive(t, filepath.Dir(rel.Model)); string(got) != string(want) {
					t.Error("something else was installed than dropped")
				}
				if n := b.log.count("drop rejected"); n > 0 || b.Status().Staged != 1 {
					t.Errorf("rejected %d times, status %+v", n, b.Status())
				}
			})
		}
	}
}

func TestAnArchiveIsInstalledWhenItIsWhole(t *testing.T) {
	t.Parallel()
	b := open(t, quick())
	whole := archive(t, packed(t, 3))
	write(t, b.path("a.tar.zst"), "")
	b.wait(t, "a.tar.zst", release.Received, release.BadArchive)
	write(t, b.path("a.tar.zst"), string(whole[:len(whole)-20]))
	b.wait(t, "a.tar.zst", release.Received, release.BadArchive)
	write(t, b.path("a.tar.zst"), string(whole))
	b.wait(t, "a.tar.zst", release.Staged, "")
	write(t, b.path("c.cache"), "a cache by itself")
	b.wait(t, "c.cache", release.Rejected, release.Unsupported)
	write(t, b.path("b.tar.zst"), "no archive at all, and it stays so")
	b.wait(t, "b.tar.zst", release.Rejected, release.BadArchive)
}

// However far a copy has come, it is never taken for an archive that is bad.
func TestEveryPartOfAnArchiveIsIncomplete(t *testing.T) {
	t.Parallel()
	whole := archive(t, packed(t, 3))
	dir := t.TempDir()
	store, err := release.OpenStore(t.TempDir())
	must(t, err)
	root, err := os.OpenRoot(dir)
	must(t, err)
	defer root.Close()
	for n := 0; n < len(whole)-16; n += 1 + n/16 {
		write(t, filepath.Join(dir, "a.tar.zst"), string(whole[:n]))
		_, _, err := store.Receive(t.Context(), root, "a.tar.zst", release.Policy{Device: "box"}, nil)
		var more *release.Incomplete
		if !errors.As(err, &more) || more.Wrong && n > 0 {
			t.Errorf("%d of %d bytes: %v", n, len(whole), err)
		}
	}
}

func TestADeltaTakesTheRestFromAnInstalledRelease(t *testing.T) {
	t.Parallel()
	b := open(t, quick())
	must(t, os.Rename(packed(t, 2), b.path("two")))
	b.wait(t, "two", release.Staged, "")
	dir := packed(t, 3)
	must(t, os.Remove(filepath.Join(dir, "model.onnx")))
	write(t, filepath.Join(dir, "labels.txt"), "half") // a copy that broke off
	must(t, os.Rename(dir, b.path("three")))
	r := b.wait(t, "three", release.Staged, "")
	if _, err := b.store.Get(r.Name, release.ID{Number: 3}); err != nil {
		t.Error(err)
	}
}

func TestALaterChangeInTheInboxChangesNothing(t *testing.T) {
	t.Parallel()
	o := quick()
	var b *box
	o.Take = func(r *release.Release) (*release.Entry, error) {
		write(t, b.path("drop", "model.onnx"), "something else")
		return b.store.Install(r, release.Policy{}, release.Options{})
	}
	dir := t.TempDir()
	b = &box{dir: filepath.Join(dir, "inbox"), state: t.TempDir()}
	must(t, os.Mkdir(b.dir, 0o755))
	must(t, os.Rename(packed(t, 2), b.path("drop")))
	b.start(t, o)
	eventually(t, "it is installed", func() bool { return b.Status().Staged == 1 })
	names, err := b.store.Names()
	must(t, err)
	if _, err := b.store.Get(names[0], release.ID{Number: 2}); err != nil {
		t.Error(err)
	}
}

func TestARestartFindsWhatItInstalledAndTriesAgainWhatItRejected(t *testing.T) {
	t.Parallel()
	b := open(t, quick())
	must(t, os.Rename(packed(t, 2), b.path("drop")))
	name := b.wait(t, "drop", release.Staged, "").Name
	must(t, b.store.Proven(name, release.ID{Number: 2}, 0))
	must(t, os.Rename(packed(t, 1), b.path("old")))
	b.wait(t, "old", release.Rejected, release.NotNewer)
	b.stop()
	must(t, b.store.Serve(name, release.ID{Number: 2}, 0, "this boot"))
	b.start(t, quick())
	b.wait(t, "drop", release.Serving, "")
	eventually(t, "the other is tried again", func() bool { return b.Status().Rejected[release.NotNewer] == 1 })
	if b.Status().Staged != 0 || b.log.count("drop installed") != 0 {
		t.Errorf("installed again: %+v", b.Status())
	}
}

func TestTroubleOfTheDeviceIsTriedAgainWithoutAChange(t *testing.T) {
	t.Parallel()
	o := quick()
	o.Rescan = 20 * time.Millisecond
	tries := 0
	var b *box
	ready := make(chan struct{})
	o.Take = func(r *release.Release) (*release.Entry, error) {
		<-ready
		if tries++; tries < 3 {
			return nil, context.DeadlineExceeded
		}
		return b.store.Install(r, release.Policy{}, release.Options{})
	}
	b = open(t, o)
	close(ready)
	must(t, os.Rename(packed(t, 2), b.path("drop")))
	b.wait(t, "drop", release.Staged, "")
}
