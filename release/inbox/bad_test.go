package inbox

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/release"
)

// A drop that is refused leaves the store as it was, with one reason, which is
// logged, counted and written once.
func TestBadDropsAreRejectedWithOneReason(t *testing.T) {
	t.Parallel()
	fleet, stranger, revoked := newSigner(t), newSigner(t), newSigner(t)
	policy := release.Policy{
		Device: "box", RequireSignature: true,
		Keys:    []release.TrustedKey{{File: fleet.file}, {File: revoked.file}},
		Revoked: []string{fmt.Sprintf("%016x", revoked.private.ID())},
	}
	manifest := func(dir string) string { return filepath.Join(dir, release.ManifestName) }
	for name, c := range map[string]struct {
		drop func(t *testing.T, dir string) // made from a signed release
		code release.Code
		want string
	}{
		"unsigned": {func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, release.SignatureName)))
		}, release.BadSignature, "has no manifest.json.minisig"},
		"signed by another key":   {func(t *testing.T, dir string) { stranger.sign(t, dir) }, release.NoTrustedKey, "none of releases.keys"},
		"signed by a revoked key": {func(t *testing.T, dir string) { revoked.sign(t, dir) }, release.NoTrustedKey, "revoked"},
		"manifest changed by one byte": {func(t *testing.T, dir string) {
			write(t, manifest(dir), read(t, manifest(dir))+" ")
		}, release.BadSignature, "one of them was changed"},
		"wrong hash": {func(t *testing.T, dir string) {
			b := []byte(read(t, filepath.Join(dir, "model.onnx")))
			b[len(b)/2] ^= 1
			write(t, filepath.Join(dir, "model.onnx"), string(b))
		}, release.BadHash, "model.onnx: found SHA-256"},
		"too long": {func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "model.onnx"), read(t, filepath.Join(dir, "model.onnx"))+"x")
		}, release.BadHash, "too long: model.onnx"},
		"half a manifest": {func(t *testing.T, dir string) {
			write(t, manifest(dir), read(t, manifest(dir))[:40])
		}, release.BadManifest, "isn't what a manifest must be"},
		"unknown key": {func(t *testing.T, dir string) {
			write(t, manifest(dir), strings.Replace(read(t, manifest(dir)), "{", `{"secret-key":1,`, 1))
		}, release.BadManifest, "isn't what a manifest must be"},
		"name with ..": {func(t *testing.T, dir string) {
			write(t, manifest(dir), strings.ReplaceAll(read(t, manifest(dir)), `"labels.txt"`, `"../labels.txt"`))
		}, release.BadManifest, "isn't what a manifest must be"},
		"absolute name": {func(t *testing.T, dir string) {
			write(t, manifest(dir), strings.ReplaceAll(read(t, manifest(dir)), `"labels.txt"`, `"/etc/passwd"`))
		}, release.BadManifest, "isn't what a manifest must be"},
		"number 2^63": {func(t *testing.T, dir string) {
			write(t, manifest(dir), strings.Replace(read(t, manifest(dir)), `"release": 2`, `"release": 9223372036854775808`, 1))
		}, release.BadManifest, "isn't what a manifest must be"},
		"manifest that never ends": {func(t *testing.T, dir string) {
			must(t, os.Truncate(manifest(dir), 1<<40))
		}, release.BadManifest, "is larger than"},
		"FIFO": {func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, "model.onnx")))
			must(t, unix.Mkfifo(filepath.Join(dir, "model.onnx"), 0o666))
		}, release.BadHash, "model.onnx is no regular file"},
		"FIFO for a manifest": {func(t *testing.T, dir string) {
			must(t, os.Remove(manifest(dir)))
			must(t, unix.Mkfifo(manifest(dir), 0o666))
		}, release.BadHash, "manifest.json is no regular file"},
		"directory for a file": {func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, "labels.txt")))
			must(t, os.Mkdir(filepath.Join(dir, "labels.txt"), 0o755))
		}, release.BadHash, "labels.txt is no regular file"},
		"link out of the inbox": {func(t *testing.T, dir string) {
			outside := filepath.Join(t.TempDir(), "labels")
			must(t, os.Rename(filepath.Join(dir, "labels.txt"), outside))
			must(t, os.Symlink(outside, filepath.Join(dir, "labels.txt")))
		}, release.BadHash, "labels.txt is a link out of the inbox"},
		"relative link out of the inbox": {func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, "labels.txt")))
			must(t, os.Symlink("../../../../etc/passwd", filepath.Join(dir, "labels.txt")))
		}, release.BadHash, "labels.txt is a link out of the inbox"},
		"link to itself": {func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, "labels.txt")))
			must(t, os.Symlink("labels.txt", filepath.Join(dir, "labels.txt")))
		}, release.BadHash, "labels.txt is a link"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := quick()
			o.Policy = policy
			b := open(t, o)
			dir := packed(t, 2)
			fleet.sign(t, dir)
			c.drop(t, dir)
			must(t, os.Rename(dir, b.path("drop")))
			r := b.wait(t, "drop", release.Rejected, c.code)
			if !strings.Contains(r.Reason, c.want) || strings.Contains(r.Reason, "secret") || strings.Contains(r.Reason, "root:") || strings.Contains(r.Reason, b.state) {
				t.Errorf("reason %q, wanted one with %q, without contents and without staging", r.Reason, c.want)
			}
			b.wantNothingInstalled(t)
			// It isn't tried again, nor told again, for other things that happen.
			write(t, b.path("other", "x"), "")
			b.wait(t, "other", release.Received, release.MissingFile)
			if n := b.log.count("drop rejected"); n != 1 {
				t.Errorf("logged %d times", n)
			}
			if s := b.Status(); s.Rejected[c.code] != 1 || len(s.Rejected) != 1 || s.Staged != 0 {
				t.Errorf("counted: %+v", s)
			}
		})
	}
}

func TestAFIFOForAFolderHangsNothing(t *testing.T) {
	t.Parallel()
	b := open(t, quick())
	dir := packed(t, 2)
	must(t, os.RemoveAll(filepath.Join(dir, "golden")))
	must(t, unix.Mkfifo(filepath.Join(dir, "golden"), 0o666))
	must(t, os.Rename(dir, b.path("a")))
	b.wait(t, "a", release.Received, release.MissingFile)
	must(t, os.Rename(packed(t, 2), b.path("b")))
	b.wait(t, "b", release.Staged, "")
}

func TestAHalfWrittenDropWaits(t *testing.T) {
	t.Parallel()
	b := open(t, quick())
	dir := packed(t, 2)
	model := read(t, filepath.Join(dir, "model.onnx"))
	write(t, filepath.Join(dir, "model.onnx"), model[:len(model)/2])
	must(t, os.Rename(dir, b.path("drop")))
	r := b.wait(t, "drop", release.Received, release.MissingFile)
	if want := fmt.Sprintf("missing: model.onnx (%d of %d bytes are there)", len(model)/2, len(model)); !strings.Contains(r.Reason, want) {
		t.Errorf("reason %q, wanted %q", r.Reason, want)
	}
	// However long it takes: patience is for what is wrong, not for what lacks.
	time.Sleep(3 * b.o.Patience)
	if r := b.result(t, "drop"); r.State != release.Received {
		t.Errorf("became %+v", r)
	}
	write(t, b.path("drop", "model.onnx"), model)
	b.wait(t, "drop", release.Staged, "")
	if n := b.log.count("drop waits"); n != 1 {
		t.Errorf("that it waits was logged %d times", n)
	}
}

func TestAnOlderNumberIsRejectedAndTheSameContentNotTriedAgain(t *testing.T) {
	t.Parallel()
	o := quick()
	b := open(t, o)
	must(t, os.Rename(packed(t, 5), b.path("five")))
	must(t, b.store.Proven(b.wait(t, "five", release.Staged, "").Name, release.ID{Number: 5}, 0))
	must(t, os.Rename(packed(t, 4), b.path("four")))
	r := b.wait(t, "four", release.Rejected, release.NotNewer)
	if r.Number != 4 || r.Name == "" {
		t.Errorf("result %+v", r)
	}
	// Another inode, another time, the same content.
	must(t, os.Rename(packed(t, 4), b.path("copy")))
	b.wait(t, "copy", release.Rejected, release.NotNewer)
	must(t, os.Chtimes(b.path("four", "model.onnx"), time.Now(), time.Unix(1, 0)))
	must(t, os.Rename(packed(t, 6), b.path("six")))
	b.wait(t, "six", release.Staged, "")
	if n := b.log.count("drop rejected"); n != 2 {
		t.Errorf("%d rejections logged, wanted one a drop", n)
	}
	if s := b.Status(); s.Staged != 2 || s.Rejected[release.NotNewer] != 2 || s.Error != "" || len(s.Drops) != 4 {
		t.Errorf("status %+v", s)
	}
}

func TestARejectedDropIsTriedAgainWhenItChanges(t *testing.T) {
	t.Parallel()
	o := quick()
	key := newSigner(t)
	o.Policy = release.Policy{RequireSignature: true, Keys: []release.TrustedKey{{File: key.file}}}
	o.Policy.Device = "box"
	b := open(t, o)
	must(t, os.Rename(packed(t, 2), b.path("drop")))
	b.wait(t, "drop", release.Rejected, release.BadSignature)
	key.sign(t, b.path("drop"))
	b.wait(t, "drop", release.Staged, "")
}

func TestFilesThatVanishLeaveNothing(t *testing.T) {
	t.Parallel()
	b := open(t, quick())
	good := packed(t, 2)
	for n := range 30 {
		must(t, os.CopyFS(b.path("drop"), os.DirFS(packed(t, 2, "mean: [127.5]", fmt.Sprintf("mean: [%d]", 126+n%2)))))
		must(t, os.RemoveAll(b.path("drop")))
	}
	must(t, os.Rename(good, b.path("drop")))
	eventually(t, "the last state is told", func() bool { s := b.result(t, "drop").State; return s == release.Staged || s == release.Rejected })
}

func TestAnInboxThatCannotBeWrittenStillDelivers(t *testing.T) {
	t.Parallel()
	b := open(t, quick())
	// A directory where the result should be; root may write anywhere else.
	must(t, os.MkdirAll(b.path("drop"+ResultSuffix, "x"), 0o755))
	must(t, os.Rename(packed(t, 2), b.path("drop")))
	eventually(t, "it is installed", func() bool { return b.Status().Staged == 1 })
	eventually(t, "the trouble is told", func() bool { return strings.Contains(b.Status().Error, "write results into the inbox") })
	eventually(t, "nothing else is left there", func() bool {
		entries, err := os.ReadDir(b.dir)
		must(t, err)
		return len(entries) == 2
	})
	if n := b.log.count("write results"); n != 1 {
		t.Errorf("logged %d times", n)
	}
}

// fullDisk has the test program, started anew in a mount namespace of its own,
// receive the drop named by its argument on a full disk.
const fullDisk = "INBOX_TEST_FULL_DISK"

func TestAFullStagingIsNoFaultOfTheDrop(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	c := exec.Command(os.Args[0], packed(t, 2))
	c.Env = append(os.Environ(), fullDisk+"="+state)
	testenv.OwnMounts(c)
	out, err := c.CombinedOutput()
	if strings.Contains(string(out), "no namespace:") || c.ProcessState == nil {
		t.Skipf("no mount namespace to be had here: %v %s", err, out)
	}
	if err != nil || !strings.Contains(string(out), "no space left on device; make room there") {
		t.Errorf("%v: %s", err, out)
	}
}

func receiveOnFullDisk() int {
	state, drop := os.Getenv(fullDisk), os.Args[1]
	if err := unix.Mount("tmpfs", state, "tmpfs", 0, "size=8k"); err != nil {
		fmt.Println("no namespace:", err)
		return 1
	}
	filling := filepath.Join(state, "full")
	if err := os.WriteFile(filling, make([]byte, 4096), 0o644); err != nil {
		fmt.Println("no namespace:", err)
		return 1
	}
	store, err := release.OpenStore(state)
	if err == nil {
		var root *os.Root
		if root, err = os.OpenRoot(filepath.Dir(drop)); err == nil {
			_, _, err = store.Receive(context.Background(), root, filepath.Base(drop), release.Policy{}, nil)
		}
	}
	fmt.Println(err)
	if left, _ := os.ReadDir(filepath.Join(state, "staging")); release.CodeOf(err) != "" || len(left) > 0 {
		fmt.Println("code", release.CodeOf(err), "left:", left)
		return 1
	}
	return 0
}
