package inbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sightd/sightd/release"
)

// serving opens an inbox beside a store in which release 7 of tiny serves, and which
// takes what the fleet's key has signed.
func serving(t *testing.T, change ...func(*Options)) (*box, signer) {
	t.Helper()
	key := newSigner(t)
	o := quick()
	o.Policy = release.Policy{Device: "box", RequireSignature: true, Keys: []release.TrustedKey{{File: key.file}}}
	for _, f := range change {
		f(&o)
	}
	b := &box{dir: filepath.Join(t.TempDir(), "inbox"), state: t.TempDir()}
	must(t, os.MkdirAll(b.dir, 0o755))
	store, err := release.OpenStore(b.state)
	must(t, err)
	install(t, store, 7)
	if o.Base == nil {
		o.Base = func(model string) (*release.Release, error) {
			if model != "tiny" {
				return nil, &release.Rejection{Code: release.UnknownModel, Err: fmt.Errorf("no model %s", model)}
			}
			p, err := store.Plan(model, 0)
			must(t, err)
			return store.Get(model, p.Serve[0].ID())
		}
	}
	b.start(t, o)
	return b, key
}

func install(t *testing.T, s *release.Store, number int) {
	t.Helper()
	rel, err := release.Open(packed(t, number))
	must(t, err)
	_, err = s.Install(rel, release.Policy{Device: "box"}, release.Options{})
	must(t, err)
	confirm(t, s, release.ID{Number: number})
}

func confirm(t *testing.T, s *release.Store, id release.ID) {
	t.Helper()
	must(t, s.Proven("tiny", id, 0))
	must(t, s.Serve("tiny", id, 0, "boot"))
	must(t, s.Confirm("tiny", id))
}

// dropIn is a bare drop-in for release 7, by the names of its files.
func (b *box) dropIn(t *testing.T, key signer, revision int64, file, content string) map[string]string {
	t.Helper()
	dir := t.TempDir()
	at := filepath.Join(dir, file)
	write(t, at, content)
	if filepath.Ext(file) == ".engine" {
		write(t, filepath.Join(dir, "tiny.json"), "{}")
	}
	base, err := b.store.Get("tiny", release.ID{Number: 7})
	must(t, err)
	_, err = release.SignDropIn(at, base, revision, key.private, time.Now())
	must(t, err)
	files := map[string]string{}
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		files[e.Name()] = read(t, filepath.Join(dir, e.Name()))
	}
	return files
}

func cache(t *testing.T) string {
	t.Helper()
	return strings.Replace(read(t, "../testdata/tiny/calib.cache"), "3d810204", "3d810205", 1)
}

func (b *box) wantRevisions(t *testing.T, want ...release.ID) {
	t.Helper()
	entries, err := b.store.List("tiny")
	must(t, err)
	var ids []release.ID
	for _, e := range entries {
		ids = append(ids, e.ID())
	}
	if fmt.Sprint(ids) != fmt.Sprint(want) {
		t.Errorf("installed: %v, wanted %v", ids, want)
	}
}

func TestABareDropInIsTakenInWhateverOrderItComes(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"tiny.cache", "tiny.onnx", "tiny.engine"} {
		for _, order := range []string{"file first", "file last", "no events"} {
			t.Run(file+", "+order, func(t *testing.T) {
				t.Parallel()
				b, key := serving(t, func(o *Options) {
					o.Patience = time.Minute
					if order == "no events" {
						o.NoEvents, o.Rescan = true, 20*time.Millisecond
					}
				})
				content := map[string]string{".cache": cache(t), ".onnx": read(t, "../testdata/tiny/net.onnx") + "\x32\x03new", ".engine": "code"}
				files := b.dropIn(t, key, 3, file, content[filepath.Ext(file)])
				var names []string
				for name := range files {
					if name != file {
						names = append(names, name)
					}
				}
				if order == "file last" {
					names = append(names, file)
				} else {
					names = append([]string{file}, names...)
				}
				for n, name := range names {
					write(t, b.path(name), files[name])
					if order != "file last" && n < len(names)-1 {
						b.wait(t, file, release.Received, release.MissingFile)
					}
				}
				r := b.wait(t, file, release.Staged, "")
				if r.Name != "tiny" || r.Number != 7 || r.Revision != 3 {
					t.Errorf("result %+v", r)
				}
				b.wantRevisions(t, release.ID{Number: 7}, release.ID{Number: 7, Revision: 3})
				if n := b.log.count("drop installed"); n != 1 || len(b.Status().Drops) != 1 {
					t.Errorf("logged %d times; %+v", n, b.Status())
				}
			})
		}
	}
}

func TestASlowCopyOfADropInWaitsForItsEnd(t *testing.T) {
	t.Parallel()
	b, key := serving(t, func(o *Options) { o.Patience = time.Minute })
	files := b.dropIn(t, key, 3, "tiny.cache", cache(t))
	write(t, b.path("tiny.cache.minisig"), files["tiny.cache.minisig"])
	f, err := os.Create(b.path("tiny.cache"))
	must(t, err)
	defer f.Close()
	_, err = f.WriteString(cache(t)[:50])
	must(t, err)
	b.wait(t, "tiny.cache", release.Received, release.BadSignature)
	_, err = f.WriteString(cache(t)[50:])
	must(t, err)
	b.wait(t, "tiny.cache", release.Staged, "")
}

func TestASymlinkedDropInIsChangedOver(t *testing.T) {
	t.Parallel()
	b, key := serving(t)
	for n, revision := range []int64{3, 4} {
		dir := fmt.Sprintf(".v%d", n)
		content := strings.Replace(cache(t), "3d810205", fmt.Sprintf("3d81020%d", revision+3), 1)
		for name, content := range b.dropIn(t, key, revision, "tiny.cache", content) {
			write(t, b.path(dir, name), content)
		}
		for _, name := range []string{"tiny.cache", "tiny.cache.minisig"} {
			must(t, os.Symlink(filepath.Join(dir, name), b.path(".link")))
			must(t, os.Rename(b.path(".link"), b.path(name)))
		}
		eventually(t, "it is installed", func() bool {
			r := b.result(t, "tiny.cache")
			return r.State == release.Staged && r.Revision == revision
		})
	}
}

func TestBadDropInsAreRejectedWithOneReason(t *testing.T) {
	t.Parallel()
	stranger := newSigner(t)
	for name, c := range map[string]struct {
		put  func(t *testing.T, b *box, key signer)
		file string // tiny.cache
		code release.Code
		want string
	}{
		"unsigned": {func(t *testing.T, b *box, _ signer) { write(t, b.path("tiny.cache"), cache(t)) }, "", release.BadSignature, "has no tiny.cache.minisig"},
		"changed by one byte": {func(t *testing.T, b *box, key signer) {
			b.put(t, b.dropIn(t, key, 3, "tiny.cache", cache(t)))
			write(t, b.path("tiny.cache"), strings.Replace(cache(t), "3d810205", "3d810206", 1))
		}, "", release.BadSignature, "one of them was changed"},
		"signed by another key": {func(t *testing.T, b *box, _ signer) {
			b.put(t, b.dropIn(t, stranger, 3, "tiny.cache", cache(t)))
		}, "", release.NoTrustedKey, "none of releases.keys"},
		"doesn't fit": {func(t *testing.T, b *box, key signer) {
			b.put(t, b.dropIn(t, key, 3, "tiny.cache", "TRT-8502-EntropyCalibration2\nother: 3c010204\n"))
		}, "", release.CacheDoesNotFit, "doesn't fit the model"},
		"another model's, renamed": {func(t *testing.T, b *box, key signer) {
			files := b.dropIn(t, key, 3, "tiny.cache", cache(t))
			b.put(t, map[string]string{"other.cache": files["tiny.cache"], "other.cache.minisig": files["tiny.cache.minisig"]})
		}, "other.cache", release.UnknownModel, "no model other"},
		"no model's name": {func(t *testing.T, b *box, _ signer) { write(t, b.path("My Model.onnx"), "x") }, "My Model.onnx", release.UnknownModel, "isn't named after a model"},
		"an older one": {func(t *testing.T, b *box, key signer) {
			old := b.dropIn(t, key, 2, "tiny.cache", strings.Replace(cache(t), "3d810205", "3d810206", 1))
			b.put(t, b.dropIn(t, key, 3, "tiny.cache", cache(t)))
			b.wait(t, "tiny.cache", release.Staged, "")
			b.put(t, old)
		}, "", release.NotNewer, "revision 3 was taken already"},
		"an old one again, after a new release": {func(t *testing.T, b *box, key signer) {
			old := b.dropIn(t, key, 3, "tiny.cache", cache(t))
			b.put(t, old)
			b.wait(t, "tiny.cache", release.Staged, "")
			for name := range old {
				must(t, os.Remove(b.path(name)))
			}
			eventually(t, "it is gone", func() bool { return len(b.Status().Drops) == 0 })
			must(t, os.Remove(b.path("tiny.cache"+ResultSuffix)))
			install(t, b.store, 8)
			b.put(t, old)
		}, "", release.NotForThisRelease, "for release 7 of tiny, not for release 8"},
		"a FIFO": {func(t *testing.T, b *box, _ signer) { must(t, unix.Mkfifo(b.path("tiny.onnx"), 0o666)) }, "tiny.onnx", release.BadHash, "no regular file"},
		"a link out of the inbox": {func(t *testing.T, b *box, _ signer) {
			must(t, os.Symlink("/etc/passwd", b.path("tiny.cache")))
		}, "", release.BadHash, "a link out of the inbox"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, key := serving(t)
			c.put(t, b, key)
			file := c.file
			if file == "" {
				file = "tiny.cache"
			}
			r := b.wait(t, file, release.Rejected, c.code)
			if !strings.Contains(r.Reason, c.want) || strings.Contains(r.Reason, "root:") || strings.Contains(r.Reason, "staging") {
				t.Errorf("reason %q, wanted one with %q, without contents and without staging", r.Reason, c.want)
			}
			// It isn't told again for other things that happen.
			write(t, b.path("other", "x"), "")
			b.wait(t, "other", release.Received, release.MissingFile)
			if n := b.log.count("drop rejected"); n != 1 {
				t.Errorf("logged %d times", n)
			}
			if s := b.Status(); s.Rejected[c.code] != 1 || len(s.Rejected) != 1 {
				t.Errorf("counted: %+v", s)
			}
		})
	}
}

func (b *box) put(t *testing.T, files map[string]string) {
	t.Helper()
	for name, content := range files {
		write(t, b.path("."+name), content)
		must(t, os.Rename(b.path("."+name), b.path(name)))
	}
}

func TestADropInWaitsForTheReleaseThatItIsFor(t *testing.T) {
	t.Parallel()
	ready := make(chan struct{})
	b, key := serving(t, func(o *Options) { o.Rescan = 20 * time.Millisecond })
	base := b.o.Base
	b.stop()
	o := b.o
	o.Base = func(model string) (*release.Release, error) {
		select {
		case <-ready:
			return base(model)
		default:
			return nil, &release.Incomplete{Err: &release.Rejection{Code: release.NotForThisRelease, Err: fmt.Errorf("none serves yet")}}
		}
	}
	b.start(t, o)
	b.put(t, b.dropIn(t, key, 3, "tiny.cache", cache(t)))
	b.wait(t, "tiny.cache", release.Received, release.NotForThisRelease)
	close(ready)
	b.wait(t, "tiny.cache", release.Staged, "")
}

func TestDropInsThatLieThereAreTakenOnceAcrossStarts(t *testing.T) {
	t.Parallel()
	for _, signed := range []bool{true, false} {
		b, key := serving(t, func(o *Options) { o.Policy.RequireSignature = signed })
		files := b.dropIn(t, key, 1, "tiny.cache", cache(t))
		if !signed {
			delete(files, "tiny.cache.minisig")
		}
		b.put(t, files)
		b.wait(t, "tiny.cache", release.Staged, "")
		confirm(t, b.store, release.ID{Number: 7, Revision: 1})
		b.stop()
		b.start(t, b.o)
		r := b.wait(t, "tiny.cache", release.Confirmed, "")
		if r.Number != 7 || r.Revision != 1 {
			t.Errorf("result %+v", r)
		}
		b.wantRevisions(t, release.ID{Number: 7}, release.ID{Number: 7, Revision: 1})
		if s := b.Status(); s.Staged != 0 || len(s.Rejected) != 0 {
			t.Errorf("counted again: %+v", s)
		}
	}
}

// What Take refuses is refused for what it is, however often it comes.
func TestARefusedDropInIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	tries := 0
	b, key := serving(t, func(o *Options) {
		o.Take = func(*release.Release) (*release.Entry, error) {
			tries++
			return nil, &release.Rejection{Code: release.WrongEngine, Err: fmt.Errorf("not for this device")}
		}
	})
	files := b.dropIn(t, key, 1, "tiny.engine", "code")
	b.put(t, files)
	b.wait(t, "tiny.engine", release.Rejected, release.WrongEngine)
	for n := range 3 {
		b.put(t, files)
		other := fmt.Sprint("other", n)
		write(t, b.path(other, "x"), "")
		b.wait(t, other, release.Received, release.MissingFile)
	}
	b.stop()
	if tries != 1 || b.log.count("drop rejected") != 1 {
		t.Errorf("tried %d times, logged %d times", tries, b.log.count("drop rejected"))
	}
}
