package release

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// disk stands for a file system's room, in bytes.
func disk(free, total uint64) func(string, *unix.Statfs_t) error {
	return func(_ string, st *unix.Statfs_t) error {
		*st = unix.Statfs_t{Bsize: 1, Bavail: free, Blocks: total}
		return nil
	}
}

// roomy is a disk that has more room than anybody needs.
var roomy = disk(1<<40, 1<<41)

// received receives a directory as a drop.
func received(t *testing.T, s *Store, dir string, o Options) (*Release, error) {
	t.Helper()
	root, err := os.OpenRoot(filepath.Dir(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	r, _, err := s.Receive(t.Context(), root, filepath.Base(dir), Policy{Device: "box"}, func(model string) (Options, error) {
		if model != "tiny" {
			t.Errorf("asked for the options of %q", model)
		}
		return o, nil
	})
	if err == nil {
		t.Cleanup(func() { r.Close() })
	}
	return r, err
}

func wantEmptyStaging(t *testing.T, s *Store) {
	t.Helper()
	if left, err := os.ReadDir(s.staging()); err == nil && len(left) > 0 {
		t.Errorf("left in staging: %v", left)
	}
}

func wantNoRoom(t *testing.T, s *Store, err error) {
	t.Helper()
	var full *NoRoom
	if !errors.As(err, &full) || CodeOf(err) != "" || !strings.Contains(err.Error(), "make room there, or set state_dir") {
		t.Errorf("%v, wanted that there is no room, which is no fault of the release", err)
	}
	wantEmptyStaging(t, s)
}

func sizeOf(t *testing.T, dir string) uint64 {
	t.Helper()
	m, err := opened(t, dir).Manifest()
	if err != nil {
		t.Fatal(err)
	}
	return uint64(m.bytes())
}

func TestAReleaseLeavesRoomForTheRest(t *testing.T) {
	t.Parallel()
	dir := packed(t)
	need := sizeOf(t, dir)
	for name, c := range map[string]struct{ total, reserve uint64 }{
		"the larger of 64 MiB":         {1 << 30, 64 << 20},
		"and 5 %":                      {10 << 30, 512 << 20},
		"of a small disk a quarter":    {40 << 20, 10 << 20},
		"of one smaller still, too":    {4 * need, need},
		"not more than can be counted": {1 << 63, 1 << 63 / 20},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			s.statfs = disk(c.reserve+need-1, c.total)
			_, err := received(t, s, dir, Options{})
			wantNoRoom(t, s, err)
			s.statfs = disk(c.reserve, c.total)
			_, again := received(t, s, dir, Options{})
			if again == nil || again.Error() != err.Error() {
				t.Errorf("%v\nthen %v: wanted the same while it doesn't fit", err, again)
			}
			_, err = s.Install(opened(t, dir), Policy{}, Options{})
			wantNoRoom(t, s, err)
			s.statfs = disk(c.reserve+need, c.total)
			r, err := received(t, s, dir, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Install(r, Policy{}, Options{Asked: true}); err != nil {
				t.Error(err) // moved, not copied once more
			}
		})
	}
}

func TestRoomIsPromisedOnce(t *testing.T) {
	t.Parallel()
	s, dir := newStore(t), packed(t)
	need := sizeOf(t, dir)
	s.statfs = disk(64<<20+2*need-1, 1<<30)
	first, err := received(t, s, dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := received(t, s, dir, Options{}); err == nil {
		t.Error("the second was received into the first one's room")
	}
	if err := errors.Join(first.Close(), first.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := received(t, s, dir, Options{}); err != nil {
		t.Error(err)
	}
	s.statfs = roomy
	if _, err := s.claim(maxStaging); !errors.Is(err, errStaging) {
		t.Errorf("%v, wanted a bound on all that is staged at a time", err)
	}
}

func TestArchivesAreUnpackedAsFarAsThereIsRoom(t *testing.T) {
	t.Parallel()
	s, dir := newStore(t), packed(t)
	var b bytes.Buffer
	if err := opened(t, dir).WriteArchive(&b); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "tiny.tar.zst")
	write(t, file, b.String())
	need := sizeOf(t, dir)
	s.statfs = disk(64<<20+need/2, 1<<30)
	_, err := s.OpenArchive("sent", bytes.NewReader(b.Bytes()))
	wantNoRoom(t, s, err)
	_, err = s.Open(file)
	wantNoRoom(t, s, err)
	_, err = received(t, s, file, Options{})
	wantNoRoom(t, s, err)
	s.statfs = roomy
	for n, open := range []func() (*Release, error){
		func() (*Release, error) { return received(t, s, file, Options{}) }, // once removed, a drop isn't taken again
		func() (*Release, error) { return s.OpenArchive("sent", bytes.NewReader(b.Bytes())) },
		func() (*Release, error) { return s.Open(file) },
	} {
		r, err := open()
		if err != nil {
			t.Fatal(err)
		}
		entry, err := s.Install(r, Policy{}, Options{Asked: true})
		if err != nil {
			t.Fatalf("%d: %v", n, err)
		}
		if _, err := s.Get("tiny", entry.ID()); err != nil {
			t.Error(err)
		}
		if err := errors.Join(r.Close(), s.Remove("tiny", entry.ID(), 0)); err != nil {
			t.Error(err)
		}
	}
	if s.claims.n != 0 {
		t.Errorf("%d bytes are promised to nobody", s.claims.n)
	}
	wantEmptyStaging(t, s)
}

// Were anything read of it, it would be found to be wrong.
func TestANumberIsRefusedBeforeAnythingIsCopied(t *testing.T) {
	t.Parallel()
	s, dir := newStore(t), packed(t)
	s.statfs = disk(0, 1<<30)
	write(t, filepath.Join(dir, "model.onnx"), strings.Repeat("x", len(read(t, filepath.Join(dir, "model.onnx")))))
	_, err := received(t, s, dir, Options{Factory: 9})
	wantRejected(t, err, NotNewer, "the factory release")
	wantEmptyStaging(t, s)
}

func TestADropMayLackWhatTheFactoryReleaseHas(t *testing.T) {
	t.Parallel()
	for name, factory := range map[string]string{"packed": packed(t, "release: 1", "release: 1"), "a model.yaml": variant(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			own := opened(t, factory)
			asked := 0
			o := Options{Factory: 1, Contents: func() (map[FileInfo]string, error) { asked++; return own.Contents() }}
			whole := packed(t, "release: 1", "release: 2")
			s := newStore(t)
			if _, err := received(t, s, whole, o); err != nil || asked > 0 {
				t.Errorf("%v; asked %d times for what isn't needed", err, asked)
			}
			if err := os.Remove(filepath.Join(whole, "model.onnx")); err != nil {
				t.Fatal(err)
			}
			r, err := received(t, s, whole, o)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Install(r, Policy{}, o); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Get("tiny", ID{Number: 2}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestADamagedFactoryReleaseIsNoFaultOfTheDrop(t *testing.T) {
	t.Parallel()
	factory := packed(t)
	own := opened(t, factory)
	write(t, filepath.Join(factory, "model.onnx"), "damaged")
	drop := packed(t, "release: 1", "release: 2")
	if err := os.Remove(filepath.Join(drop, "model.onnx")); err != nil {
		t.Fatal(err)
	}
	s := newStore(t)
	_, err := received(t, s, drop, Options{Contents: own.Contents})
	wantRejected(t, err, MissingFile, "that of the installed release is damaged")
	var more *Incomplete
	if !errors.As(err, &more) {
		t.Errorf("%v, wanted that the file may come", err)
	}
	gone := errors.New("the disk is gone")
	_, err = received(t, s, drop, Options{Contents: func() (map[FileInfo]string, error) { return nil, gone }})
	if err == nil || CodeOf(err) != "" || !strings.Contains(err.Error(), gone.Error()) {
		t.Errorf("%v, wanted what is wrong with the factory release", err)
	}
	wantEmptyStaging(t, s)
}
