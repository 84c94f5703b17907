package inbox

import (
	"context"
	"errors"
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
		"hash in capitals": {func(t *testing.T, dir string) {
			b := []byte(read(t, manifest(dir)))
			at := strings.Index(string(b), `"sha256": "`) + len(`"sha256": "`)
			copy(b[at:], strings.ToUpper(string(b[at:at+64])))
			write(t, manifest(dir), string(b))
			fleet.sign(t, dir)
		}, release.BadManifest, "isn't what a manifest must be"},
		"more files than a release has": {func(t *testing.T, dir string) {
			many := manyNamed(t, fleet, 10_001)
			must(t, os.Rename(manifest(many), manifest(dir)))
		}, release.BadManifest, "isn't what a manifest must be"},
		"for other devices": {func(t *testing.T, dir string) {
			must(t, os.RemoveAll(dir))
			must(t, os.Rename(packed(t, 2, "golden: golden", "for: {devices: [another]}"), dir))
			fleet.sign(t, dir)
		}, release.NotForThisDevice, "another"},
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

// What is taken is what was hashed, whatever a writer does at the same time.
func TestADropThatChangesWhileItIsReadIsTakenWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	o := quick()
	o.Settle, o.Rescan, o.Patience = time.Millisecond, 5*time.Millisecond, time.Hour
	b := open(t, o)
	dir := packed(t, 2)
	good := read(t, filepath.Join(dir, "model.onnx"))
	bad := strings.Repeat("x", len(good))
	must(t, os.Rename(dir, b.path("drop")))
	for n := range 200 {
		write(t, b.path("drop", "model.onnx"), []string{good, bad}[n%2])
	}
	write(t, b.path("drop", "model.onnx"), good)
	r := b.wait(t, "drop", release.Staged, "")
	_, err := b.store.Get(r.Name, release.ID{Number: 2})
	must(t, err)
	if b.log.count("drop rejected") > 0 {
		t.Error("it was rejected on the way")
	}
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

// A drop waits for room, which somebody makes.
func TestADropWaitsForRoomOnTheDisk(t *testing.T) {
	t.Parallel()
	if !apart(t) {
		return
	}
	o := quick()
	o.Rescan = 20 * time.Millisecond
	b := &box{dir: filepath.Join(t.TempDir(), "inbox"), state: filepath.Join(t.TempDir(), "state")}
	must(t, errors.Join(os.Mkdir(b.dir, 0o755), os.Mkdir(b.state, 0o755)))
	must(t, unix.Mount("tmpfs", b.state, "tmpfs", 0, "size=1m"))
	filling := testenv.Fill(t, b.state)
	must(t, os.Truncate(filling, 850<<10)) // what is left is kept for the rest
	must(t, os.Rename(packed(t, 2), b.path("drop")))
	b.start(t, o)
	t.Cleanup(func() { b.stop(); _ = unix.Unmount(b.state, unix.MNT_DETACH) })
	r := b.wait(t, "drop", release.Received, "")
	eventually(t, "why it waits is said", func() bool { r = b.result(t, "drop"); return strings.Contains(r.Reason, "make room there") })
	before, err := os.Stat(b.path("drop" + ResultSuffix))
	must(t, err)
	time.Sleep(5 * o.Rescan)
	if after, err := os.Stat(b.path("drop" + ResultSuffix)); err != nil || !os.SameFile(before, after) || b.log.count("drop waits") != 1 {
		t.Errorf("it is said again and again: %v", err)
	}
	must(t, os.Remove(filling))
	b.wait(t, "drop", release.Staged, "")
}

// apart has a test run once more, in a process with a mount namespace of its own, and
// is true there.
func apart(t *testing.T) bool {
	t.Helper()
	const variable = "INBOX_TEST_APART"
	if os.Getenv(variable) == t.Name() {
		return true
	}
	try := exec.Command("true")
	testenv.OwnMounts(try)
	if err := try.Run(); err != nil {
		t.Skipf("no mount namespace to be had here: %v", err)
	}
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	c.Env = append(os.Environ(), variable+"="+t.Name())
	testenv.OwnMounts(c)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	} else if _, why, skipped := strings.Cut(string(out), "SKIP: "); skipped {
		t.Skip(why)
	}
	return false
}

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
