package release

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestDropInsFromTheInboxThatAreRefused(t *testing.T) {
	t.Parallel()
	stranger := newSigner(t)
	for name, c := range map[string]struct {
		spoil  func(*dropBox)
		policy func(*dropBox, *Policy)
		file   string // tiny.cache
		code   Code
		want   string
		waits  Code // for what it waits before it is rejected; "": at once
	}{
		"a cache that doesn't fit": {spoil: func(b *dropBox) {
			b.puts("tiny.cache", "TRT-8502-EntropyCalibration2\nother: 3c010204\n", 2)
		}, code: CacheDoesNotFit, want: "/tiny.cache doesn't fit the model"},
		"no cache at all":      {spoil: func(b *dropBox) { b.puts("tiny.cache", "x", 2) }, code: BadCache, want: "/tiny.cache"},
		"a model that is none": {spoil: func(b *dropBox) { b.puts("tiny.onnx", "x", 2) }, file: "tiny.onnx", code: BadModel, want: "/tiny.onnx"},
		"unsigned": {spoil: func(b *dropBox) {
			b.must(os.Remove(b.at("tiny.cache.minisig")))
		}, code: BadSignature, want: "has no tiny.cache.minisig", waits: MissingFile},
		"unsigned where no key is": {
			spoil:  func(b *dropBox) { b.must(os.Remove(b.at("tiny.cache.minisig"))) },
			policy: func(_ *dropBox, p *Policy) { p.Keys = nil }, code: NoTrustedKey, want: "no key is trusted",
		},
		"changed by one byte": {spoil: func(b *dropBox) {
			write(b.t, b.at("tiny.cache"), strings.Replace(newCache(b.t), "3d810205", "3d810206", 1))
		}, code: BadSignature, want: "one of them was changed", waits: BadSignature},
		"cut short": {spoil: func(b *dropBox) {
			write(b.t, b.at("tiny.cache"), newCache(b.t)[:80])
		}, code: BadSignature, waits: BadSignature},
		"signed by a stranger": {policy: func(_ *dropBox, p *Policy) { p.Keys[0].File = stranger.pub }, code: NoTrustedKey, want: "none of releases.keys"},
		"signed with a revoked key": {
			policy: func(b *dropBox, p *Policy) { p.Revoked = []string{b.id} }, code: NoTrustedKey, want: "revoked",
		},
		"a bad signature where none is required": {
			spoil:  func(b *dropBox) { write(b.t, b.at("tiny.cache.minisig"), "x") },
			policy: func(_ *dropBox, p *Policy) { p.RequireSignature = false }, code: BadSignature, want: "is no minisign signature", waits: BadSignature,
		},
		"renamed": {spoil: func(b *dropBox) {
			b.must(os.Rename(b.at("tiny.cache"), b.at("tiny.onnx")))
			b.must(os.Rename(b.at("tiny.cache.minisig"), b.at("tiny.onnx.minisig")))
		}, file: "tiny.onnx", code: NotForThisRelease, want: "was signed as tiny.cache"},
		"another model's": {spoil: func(b *dropBox) {
			b.must(os.Rename(b.at("tiny.cache"), b.at("lite0.cache")))
		}, file: "lite0.cache", code: NotForThisRelease, want: "wanted tiny.cache"},
		"a FIFO": {spoil: func(b *dropBox) {
			b.must(os.Remove(b.at("tiny.cache")))
			b.must(unix.Mkfifo(b.at("tiny.cache"), 0o666))
		}, code: BadHash, want: "is no regular file"},
		"a FIFO for a signature": {spoil: func(b *dropBox) {
			b.must(os.Remove(b.at("tiny.cache.minisig")))
			b.must(unix.Mkfifo(b.at("tiny.cache.minisig"), 0o666))
		}, code: BadHash, want: "is no regular file"},
		"a link out": {spoil: func(b *dropBox) {
			outside := filepath.Join(b.t.TempDir(), "cache")
			b.must(os.Rename(b.at("tiny.cache"), outside))
			b.must(os.Symlink(outside, b.at("tiny.cache")))
		}, code: BadHash, want: "is a link out of the inbox"},
		"a cache that never ends": {spoil: func(b *dropBox) {
			b.must(os.Truncate(b.at("tiny.cache"), 1<<40))
		}, code: BadHash, want: "at most 16777216 are taken"},
		"a signature that never ends": {spoil: func(b *dropBox) {
			b.must(os.Truncate(b.at("tiny.cache.minisig"), 1<<40))
		}, code: BadManifest, want: "is larger than"},
		"an engine without its sidecar": {spoil: func(b *dropBox) {
			b.puts("tiny.engine", "machine code", 2)
			b.must(os.Remove(b.at("tiny.json")))
		}, file: "tiny.engine", code: MissingFile, want: "has no tiny.json", waits: MissingFile},
		"an engine with another sidecar": {spoil: func(b *dropBox) {
			b.puts("tiny.engine", "machine code", 2)
			write(b.t, b.at("tiny.json"), "{}")
		}, file: "tiny.engine", code: BadHash, want: "which is signed with tiny.engine", waits: BadHash},
		"an unsigned engine where signatures aren't required": {
			spoil:  func(b *dropBox) { b.puts("tiny.engine", "machine code", 0) },
			policy: func(_ *dropBox, p *Policy) { p.RequireSignature = false },
			file:   "tiny.engine", code: BadSignature, want: "an engine is code", waits: MissingFile,
		},
		"an unsigned engine where signatures are required": {
			spoil:  func(b *dropBox) { b.puts("tiny.engine", "machine code", 0) },
			policy: func(_ *dropBox, p *Policy) { p.AllowUnsignedEngines = true },
			file:   "tiny.engine", code: BadSignature, want: "has no tiny.engine.minisig", waits: MissingFile,
		},
		"half a cache, unsigned": {
			spoil: func(b *dropBox) {
				b.must(os.Remove(b.at("tiny.cache.minisig")))
				write(b.t, b.at("tiny.cache"), newCache(b.t)[:80])
			},
			policy: func(_ *dropBox, p *Policy) { p.RequireSignature = false }, code: BadCache, waits: BadCache,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newDropBox(t)
			b.puts("tiny.cache", newCache(t), 2)
			if c.spoil != nil {
				c.spoil(b)
			}
			p := b.trusts()
			if c.policy != nil {
				c.policy(b, &p)
			}
			file := c.file
			if file == "" {
				file = "tiny.cache"
			}
			before := tree(t, b.Store.dir)
			_, err := b.receive(file, p)
			var more *Incomplete
			if waits := errors.As(err, &more); waits != (c.waits != "") || waits && (!more.Wrong || CodeOf(err) != c.waits) {
				t.Errorf("%v waits: %v, wanted it for %q", err, waits, c.waits)
			}
			if more != nil {
				err = more.Final()
			}
			wantRejected(t, err, c.code, c.want)
			if err != nil && strings.Contains(err.Error(), b.staging()) {
				t.Errorf("%v names the staging", err)
			}
			if diff := cmp.Diff(before, tree(t, b.Store.dir)); diff != "" {
				t.Errorf("the store has changed:\n%s", diff)
			}
		})
	}
}

func TestADropInIsNotReplayed(t *testing.T) {
	t.Parallel()
	b := newDropBox(t)
	p := b.trusts()
	keep := func(file string) map[string]string {
		return map[string]string{file: read(t, b.at(file)), file + ".minisig": read(t, b.at(file+".minisig"))}
	}
	again := func(files map[string]string, code Code, want string) {
		t.Helper()
		for name, content := range files {
			write(t, b.at(name), content)
		}
		_, err := b.receive("tiny.cache", p)
		wantRejected(t, err, code, want)
	}
	b.puts("tiny.cache", otherCache(t, "6"), 2)
	second := keep("tiny.cache")
	b.confirmed(b.takes("tiny.cache", p).ID())
	b.puts("tiny.cache", newCache(t), 3)
	third := keep("tiny.cache")
	b.takes("tiny.cache", p)

	// What was taken last is known, whatever has become of it.
	for range 2 {
		_, err := b.receive("tiny.cache", p)
		var known *Installed
		if !errors.As(err, &known) || known.Entry.ID() != (ID{7, 3}) {
			t.Errorf("%v; wanted release 7.3 to be installed already", err)
		}
		b.must(b.Reject("tiny", ID{7, 3}, BadModel, "constant answers"))
		_, err = b.Prune("tiny", 0, 0)
		b.must(err)
	}
	again(second, NotNewer, "is revision 2 for release 7 of tiny, and revision 3 was taken already")
	b.puts("tiny.cache", otherCache(t, "7"), 3)
	again(nil, NotNewer, "is revision 3 for release 7 of tiny, and revision 3 was taken already")

	b.installs(8)
	b.confirms(8)
	again(second, NotForThisRelease, "was signed for release 7 of tiny, not for release 8")
	again(third, NotForThisRelease, "was signed for release 7 of tiny, not for release 8")
}
