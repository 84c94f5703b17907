package daemon

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// used sets when an engine was used last, in days ago.
func used(t *testing.T, path string, days int) {
	t.Helper()
	at := time.Now().Add(-time.Duration(days) * 24 * time.Hour)
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

func gone(t *testing.T, path string) bool {
	t.Helper()
	_, err := os.Stat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err != nil
}

func TestOldEnginesGo(t *testing.T) {
	t.Parallel()
	s, b := testStore(t), &builder{}
	paths := map[string]string{}
	days := map[string]int{"new": 0, "fresh": 29, "old": 31, "old but in use": 40}
	for graph := range days {
		paths[graph] = open(t, s, b, graph).Path
	}
	for graph, n := range days {
		used(t, sidecar(paths[graph]), n)
	}
	release := inUse.hold(paths["old but in use"])
	defer release()
	s.Prune()
	for graph, path := range paths {
		if want := graph == "old"; gone(t, path) != want || gone(t, sidecar(path)) != want {
			t.Errorf("%s: gone %v, its sidecar %v; wanted %v", graph, gone(t, path), gone(t, sidecar(path)), want)
		}
	}
}

// A device that was in a drawer for a year starts without building anything.
func TestAgeCountsFromTheLastUseOfAll(t *testing.T) {
	t.Parallel()
	s, b := testStore(t), &builder{}
	one, two := open(t, s, b, "one").Path, open(t, s, b, "two").Path
	used(t, sidecar(one), 365)
	used(t, sidecar(two), 370)
	s.Prune()
	if gone(t, one) || gone(t, two) {
		t.Error("engines have gone")
	}
}

func TestLeastUsedGoWhereThereIsNoRoom(t *testing.T) {
	t.Parallel()
	s, b := testStore(t), &builder{}
	var paths []string
	for _, graph := range []string{"0000", "1111", "2222", "3333"} {
		paths = append(paths, open(t, s, b, graph).Path)
	}
	for i, path := range paths {
		used(t, sidecar(path), i)
	}
	release := inUse.hold(paths[3])
	s.prune(engineAge, 3*4)
	release()
	for i, want := range []bool{false, false, true, false} {
		if gone(t, paths[i]) != want {
			t.Errorf("engine %d: gone %v, wanted %v", i, !want, want)
		}
	}
}

func TestLoadingCountsAsUse(t *testing.T) {
	t.Parallel()
	s, b := testStore(t), &builder{}
	path := open(t, s, b, "graph").Path
	used(t, sidecar(path), 31)
	open(t, s, b, "graph")
	if info, err := os.Stat(sidecar(path)); err != nil || time.Since(info.ModTime()) > time.Hour {
		t.Errorf("it was used at %v, %v", info.ModTime(), err)
	}
}

func TestNotesGoWithTheirEngines(t *testing.T) {
	t.Parallel()
	s, b := testStore(t), &builder{}
	open(t, s, b, "there")
	write := func(name string, v any, days int) string {
		path := filepath.Join(s.Dir, name)
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		rewrite(t, path, string(text))
		used(t, path, days)
		return path
	}
	for path, want := range map[string]bool{
		write("1.prepared.json", note{Prepared: *preparedOf("there")}, 60):  false,
		write("2.prepared.json", note{Prepared: *preparedOf("absent")}, 60): true,
		write("3.prepared.json", note{Prepared: *preparedOf("absent")}, 1):  false,
		write("4.failed.json", failure{Count: 1}, 60):                       true,
		write("5.failed.json", failure{Count: 1}, 1):                        false,
	} {
		s.Prune()
		if gone(t, path) != want {
			t.Errorf("%s: gone %v, wanted %v", filepath.Base(path), !want, want)
		}
	}
}
