package inbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/fsnotify/fsnotify"
)

// maxWatches bounds what the directories of drops may take of the kernel's.
const maxWatches = 2000

// watcher tells of changes where the system does. Without events its channels
// are nil, and never ready.
type watcher struct {
	fs     *fsnotify.Watcher
	events <-chan fsnotify.Event
	errors <-chan error
	failed error            // why not all of it is watched
	have   map[string]place // by path
}

// place is which directory a path led to: after a rename or a change of a link
// it is another one, which has to be watched anew.
type place struct{ dev, ino uint64 }

func newWatcher(none bool) *watcher {
	w := &watcher{have: map[string]place{}}
	if none {
		return w
	}
	if w.fs, w.failed = fsnotify.NewWatcher(); w.failed != nil {
		w.failed = unwatched(w.failed)
		return w
	}
	w.events, w.errors = w.fs.Events, w.fs.Errors
	return w
}

func unwatched(err error) error {
	return fmt.Errorf("watch the inbox: %w: it is scanned instead, once a minute; where it is a limit, raise fs.inotify.max_user_watches and max_user_instances", err)
}

// add watches a directory, given by its path below root, which is at dir. What
// is no directory below it isn't watched.
func (w *watcher) add(root *os.Root, name, dir string) {
	if w.fs == nil {
		return
	}
	info, err := root.Stat(name)
	if err != nil || !info.IsDir() {
		return
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return
	}
	at, is := filepath.Join(dir, name), place{uint64(st.Dev), st.Ino}
	have, known := w.have[at]
	if known && have == is {
		return
	}
	if known {
		w.drop(at)
	}
	if len(w.have) >= maxWatches {
		w.failed = unwatched(fmt.Errorf("more than %d directories", maxWatches))
		return
	}
	if err := w.fs.Add(at); err == nil {
		w.have[at] = is
	} else if !errors.Is(err, fs.ErrNotExist) { // else it is gone again, which the next look finds
		w.failed = unwatched(err)
	}
}

// drop stops watching one directory.
func (w *watcher) drop(at string) {
	delete(w.have, at)
	_ = w.fs.Remove(at) // it may be gone, and its watch with it
}

// remove stops watching a drop.
func (w *watcher) remove(dir, name string) {
	at := filepath.Join(dir, name)
	for path := range w.have {
		if path == at || strings.HasPrefix(path, at+string(filepath.Separator)) {
			w.drop(path)
		}
	}
}

// prune forgets the directories whose watch has ended with them.
func (w *watcher) prune() {
	if w.fs == nil {
		return
	}
	w.failed = nil
	live := map[string]bool{}
	for _, path := range w.fs.WatchList() {
		live[path] = true
	}
	for path := range w.have {
		if !live[path] {
			delete(w.have, path)
		}
	}
}

// reset forgets all, so that the next scan watches anew.
func (w *watcher) reset() {
	for path := range w.have {
		w.drop(path)
	}
}

// dropOf is the name of the drop that an event is about; empty where it is about
// the inbox itself.
func (w *watcher) dropOf(dir string, e fsnotify.Event) string {
	if e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename) {
		for path := range w.have {
			if path == e.Name || strings.HasPrefix(path, e.Name+string(filepath.Separator)) {
				w.drop(path)
			}
		}
	}
	below, err := filepath.Rel(dir, e.Name)
	if err != nil || below == "." {
		return ""
	}
	name, _, _ := strings.Cut(below, string(filepath.Separator))
	return name
}

func (w *watcher) close() {
	if w.fs != nil {
		_ = w.fs.Close()
	}
}
