package mqtt

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sightd/sightd/internal/durable"
	"github.com/sightd/sightd/internal/durable/durabletest"
)

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func testKept(t *testing.T) *kept {
	t.Helper()
	return openKept(t, filepath.Join(t.TempDir(), "commands"))
}

func openKept(t *testing.T, dir string) *kept {
	t.Helper()
	k := newKept(dir, slog.New(slog.NewTextHandler(logWriter{t}, nil)))
	if err := k.open(); err != nil {
		t.Fatal(err)
	}
	return k
}

// does notes a command and keeps a result of the size.
func does(t *testing.T, k *kept, id string, at time.Time, size int) {
	t.Helper()
	if err := k.note("echo", id, at); err != nil {
		t.Fatal(err)
	}
	r := Reply{ID: id, OK: true, Result: json.RawMessage(`"` + strings.Repeat("r", size) + `"`)}
	if err := k.keep(id, marshal(r)); err != nil {
		t.Fatal(err)
	}
}

func found(t *testing.T, k *kept, id string) (r Reply, known bool) {
	t.Helper()
	rec, known, err := k.find(id)
	if err != nil {
		t.Fatal(err)
	}
	if known {
		if err := json.Unmarshal(rec.Reply, &r); err != nil || r.ID != id {
			t.Fatalf("reply %s of %s: %v", rec.Reply, id, err)
		}
	}
	return r, known
}

func TestCommandsAreForgottenAfterADay(t *testing.T) {
	t.Parallel()
	k := testKept(t)
	now := time.Now()
	does(t, k, "old", now.Add(-keepFor-time.Minute), 1)
	does(t, k, "young", now.Add(-keepFor+time.Minute), 1)
	does(t, k, "new", now, 1)
	for _, k := range []*kept{k, openKept(t, k.dir)} {
		k.forget(now)
		if _, known := found(t, k, "old"); known {
			t.Error("what is older than a day is kept")
		}
		for _, id := range []string{"young", "new"} {
			if r, known := found(t, k, id); !known || !r.OK {
				t.Errorf("%s: %+v", id, r)
			}
		}
	}
}

func TestTheOldestCommandsAreForgottenFirst(t *testing.T) {
	t.Parallel()
	k := testKept(t)
	k.most = 5
	for i := range 8 {
		does(t, k, fmt.Sprint(i), time.Now().Add(time.Duration(i)*time.Second), 1)
	}
	for i := range 8 {
		if _, known := found(t, k, fmt.Sprint(i)); known != (i >= 3) {
			t.Errorf("command %d: known is %v", i, known)
		}
	}
	if files, err := os.ReadDir(k.dir); err != nil || len(files) != 5 {
		t.Errorf("%d files: %v", len(files), err)
	}
}

// That a command was done is known longer than what came of it.
func TestTheResultsOfTheOldestAreLeftOutFirst(t *testing.T) {
	t.Parallel()
	k := testKept(t)
	k.mostSize = 50 << 10
	for i := range 8 {
		does(t, k, fmt.Sprint(i), time.Now().Add(time.Duration(i)*time.Second), 10<<10)
		if k.size > k.mostSize {
			t.Errorf("%d bytes are kept", k.size)
		}
	}
	for i := range 8 {
		r, known := found(t, k, fmt.Sprint(i))
		if gone := i < 4; !known || !r.OK || (r.Result == nil) != gone || (r.Code == ReplyGone) != gone {
			t.Errorf("command %d: %.200v", i, r)
		}
	}
	again := openKept(t, k.dir)
	if again.size != k.size || len(again.order) != 8 {
		t.Errorf("read again: %d commands of %d bytes, want %d", len(again.order), again.size, k.size)
	}
}

func TestADamagedNoteIsSetAsideAndItsIDNotObeyed(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"cut off":    `{"id":"a","command":"ec`,
		"empty":      "",
		"zeros":      strings.Repeat("\x00", 4096),
		"another id": `{"id":"b","command":"echo","reply":{"ok":true}}`,
		"huge":       strings.Repeat(" ", maxRecord+1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := testKept(t)
			does(t, k, "a", time.Now(), 1)
			does(t, k, "fine", time.Now(), 1)
			writeFile(t, k.path(keyOf("a")), content)
			for range 2 { // also when it is aside
				k = openKept(t, k.dir)
				if r, known := found(t, k, "a"); !known || r.OK || r.Code != ReplyGone {
					t.Errorf("%+v", r)
				}
				if r, _ := found(t, k, "fine"); !r.OK {
					t.Errorf("the other: %+v", r)
				}
			}
			aside := strings.TrimSuffix(k.path(keyOf("a")), keptSuffix) + damagedSuffix
			if b, err := os.ReadFile(aside); err != nil || string(b) != content {
				t.Errorf("set aside: %.40q, %v", b, err)
			}
			k.forget(time.Now().Add(keepFor + time.Hour))
			if files, err := os.ReadDir(k.dir); err != nil || len(files) > 0 {
				t.Errorf("left after a day: %v, %v", files, err)
			}
		})
	}
}

func TestOtherFilesAreLeftAlone(t *testing.T) {
	t.Parallel()
	k := testKept(t)
	writeFile(t, filepath.Join(k.dir, "notes.json"), "{}")
	k = openKept(t, k.dir)
	k.forget(time.Now().Add(100 * keepFor))
	if _, err := os.Stat(filepath.Join(k.dir, "notes.json")); err != nil || len(k.order) != 0 {
		t.Errorf("%v, %d commands", err, len(k.order))
	}
}

func TestAFullDiskKeepsCommandsFromBeingDone(t *testing.T) {
	t.Parallel()
	k := testKept(t)
	tree := durabletest.NewTree(t, k.dir)
	full := false
	tree.Fail = func(op, _ string) error {
		if full && op != "remove" {
			return errors.New("no space left on device")
		}
		return nil
	}
	k.tree = tree
	if err := k.note("echo", "a", time.Now()); err != nil {
		t.Fatal(err)
	}
	full = true
	if err := k.note("echo", "b", time.Now()); err == nil || !strings.Contains(err.Error(), "no space") {
		t.Errorf("error %v", err)
	}
	if _, known := found(t, k, "b"); known {
		t.Error("what couldn't be noted is known")
	}
	// What was done is known all the same, without what may be large.
	err := k.keep("a", marshal(Reply{ID: "a", OK: true, Result: json.RawMessage(`1`)}))
	if err == nil {
		t.Error("no error")
	}
	if r, known := found(t, k, "a"); !known || !r.OK || r.Code != ReplyGone {
		t.Errorf("%+v", r)
	}
}

// At each operation on the disk the power fails. What was noted stays noted, and
// a reply that was kept stays.
func TestNoPowerCutHasACommandDoneTwice(t *testing.T) {
	t.Parallel()
	for _, left := range durabletest.Lefts {
		for n := 0; ; n++ {
			k := testKept(t)
			tree := durabletest.NewTree(t, k.dir)
			k.tree = tree
			ops := 0
			tree.Fail = func(string, string) error {
				if ops++; ops > n {
					return errors.New("the power is out")
				}
				return nil
			}
			noted := k.note("echo", "a", time.Now()) == nil
			kept := noted && k.keep("a", marshal(Reply{ID: "a", OK: true})) == nil
			survived, err := tree.PowerCut(left)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			if err := durabletest.Write(dir, survived); err != nil {
				t.Fatal(err)
			}
			r, known := found(t, openKept(t, dir), "a")
			switch {
			case noted && !known:
				t.Errorf("cut %d, left %+v: noted, and forgotten", n, left)
			case kept && !r.OK:
				t.Errorf("cut %d, left %+v: kept, and answered %+v", n, left, r)
			case known && !r.OK && r.Code != RefusedInterrupted:
				t.Errorf("cut %d, left %+v: %+v", n, left, r)
			}
			if kept {
				break
			}
		}
	}
}

func TestAPowerCutsTemporaryFilesAreRemoved(t *testing.T) {
	t.Parallel()
	k := testKept(t)
	name := "." + keyOf("a") + keptSuffix + ".sightd-tmp-1"
	if !durable.IsTemp(name) {
		t.Fatal(name)
	}
	writeFile(t, filepath.Join(k.dir, name), "{")
	k = openKept(t, k.dir)
	if files, err := os.ReadDir(k.dir); err != nil || len(files) > 0 {
		t.Errorf("%v, %v", files, err)
	}
}

func FuzzKept(f *testing.F) {
	f.Add([]byte(`{"id":"a","command":"echo","received":"2026-01-02T03:04:05Z","reply":{"id":"a","ok":true}}`))
	f.Add([]byte(`{"id":"a"}`))
	f.Add([]byte("\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		path := filepath.Join(dir, keyOf("a")+keptSuffix)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		k := newKept(dir, slog.New(slog.DiscardHandler))
		r, known, err := k.find("a")
		if err != nil || !known || len(bytes.TrimSpace(r.Reply)) == 0 || !json.Valid(r.Reply) {
			t.Errorf("%q: %+v, %v, %v", b, r, known, err)
		}
	})
}
