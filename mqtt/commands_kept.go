package mqtt

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sightd/sightd/internal/durable"
	"github.com/sightd/sightd/internal/strict"
)

// Bounds of what is kept of commands.
const (
	keepFor     = 24 * time.Hour
	maxKept     = 4096     // commands; the oldest are forgotten first
	maxKeptSize = 16 << 20 // bytes; above, the results of the oldest are
	largeRecord = 4 << 10  // bytes of a record whose result is worth forgetting
	maxRecord   = 2 * maxPayload
)

// kept is what was done for each id, in a directory with one file for each: it is
// noted before a command is done and holds the reply afterwards. So a command
// isn't done twice, whenever power was cut. It is used by one goroutine.
type kept struct {
	dir    string
	tree   durable.Tree
	log    *slog.Logger
	opened bool

	byKey map[string]*keptFile
	order []*keptFile // oldest first
	size  int64

	most     int // as maxKept; tests have less
	mostSize int64
}

// keptFile is one command that is kept.
type keptFile struct {
	key      string
	received time.Time
	size     int64
	reply    []byte // only where the disk doesn't take it
	damaged  bool
}

// record is the content of a file.
type record struct {
	ID       string          `json:"id"`
	Command  string          `json:"command"`
	Received time.Time       `json:"received"`
	Reply    json.RawMessage `json:"reply,omitempty"` // absent: it was begun
}

func newKept(dir string, log *slog.Logger) *kept {
	return &kept{dir: dir, tree: durable.Disk{}, log: log, byKey: map[string]*keptFile{}, most: maxKept, mostSize: maxKeptSize}
}

// The name of a file is made of the id alone, so also a damaged one says that
// its id was there.
const (
	keptSuffix    = ".json"
	damagedSuffix = ".damaged"
	keyBytes      = 16
)

func keyOf(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:keyBytes])
}

func (k *kept) path(key string) string { return filepath.Join(k.dir, key+keptSuffix) }

// open reads what there is. Once it has succeeded it does nothing.
func (k *kept) open() error {
	if k.opened {
		return nil
	}
	if err := durable.MkdirAllOn(k.tree, k.dir, 0o700); err != nil {
		return fmt.Errorf("make a directory for commands: %w", err)
	}
	files, err := os.ReadDir(k.dir)
	if err != nil {
		return fmt.Errorf("read which commands were done: %w", err)
	}
	clear(k.byKey)
	k.order, k.size = nil, 0
	for _, f := range files {
		path := filepath.Join(k.dir, f.Name())
		key, whole := strings.CutSuffix(f.Name(), keptSuffix)
		damagedKey, damaged := strings.CutSuffix(f.Name(), damagedSuffix)
		switch {
		case durable.IsTemp(f.Name()):
			_ = k.tree.Remove(path) // a power cut left it
		case whole && isKey(key):
			k.load(key, path)
		case damaged && isKey(damagedKey):
			k.add(&keptFile{key: damagedKey, received: modified(path), damaged: true})
		}
	}
	slices.SortFunc(k.order, func(a, b *keptFile) int { return a.received.Compare(b.received) })
	k.opened = true
	return nil
}

func isKey(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == keyBytes
}

func modified(path string) time.Time {
	if info, err := os.Stat(path); err == nil {
		return info.ModTime()
	}
	return time.Now()
}

// load takes a file into account, and sets it aside where it can't be read.
func (k *kept) load(key, path string) {
	f := &keptFile{key: key, received: modified(path)}
	r, size, err := k.read(path)
	if err == nil && keyOf(r.ID) != key {
		err = errors.New("it holds another id than its name says")
	}
	if err != nil {
		f.damaged = true
		aside := strings.TrimSuffix(path, keptSuffix) + damagedSuffix
		k.log.Error("what is kept of a command can't be read; it is set aside, and its id not obeyed again", "file", path, "aside", aside, "err", err)
		if err := k.tree.Rename(path, aside); err != nil {
			k.log.Error("set the file aside", "err", err)
		}
	} else {
		f.received, f.size = r.Received, size
	}
	k.add(f)
}

func (k *kept) add(f *keptFile) {
	if k.byKey[f.key] != nil {
		return // a file and a damaged one: the first says all
	}
	k.byKey[f.key] = f
	k.order = append(k.order, f)
	k.size += f.size
}

func (k *kept) read(path string) (r record, size int64, err error) {
	b, err := strict.ReadFile(path, maxRecord)
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	return r, int64(len(b)), err
}

// find gives what is kept of an id; its Reply is never empty.
func (k *kept) find(id string) (r record, known bool, err error) {
	if err := k.open(); err != nil {
		return record{}, false, err
	}
	f := k.byKey[keyOf(id)]
	if f == nil {
		return record{}, false, nil
	}
	gone := marshal(Reply{ID: id, Code: ReplyGone, Error: "the id was used before, and its reply can't be read any more: see whether it was done, and give the command another id"})
	if f.damaged {
		return record{ID: id, Reply: gone}, true, nil
	}
	r, _, err = k.read(k.path(f.key))
	switch {
	case f.reply != nil:
		r.Reply = f.reply
	case err != nil:
		k.log.Error("what is kept of a command can't be read", "id", id, "err", err)
		r = record{ID: id, Reply: gone}
	case r.Reply == nil:
		r.Reply = marshal(Reply{ID: id, Code: RefusedInterrupted, Error: "sightd ended while it did this, so whether it was done isn't known: see, and give the command another id"})
	}
	return r, true, nil
}

// note writes down that a command is begun.
func (k *kept) note(command, id string, now time.Time) error {
	k.forget(now)
	key := keyOf(id)
	size, err := k.write(key, record{ID: id, Command: command, Received: now.UTC()})
	if err != nil {
		return fmt.Errorf("note the command before it is done: %w", err)
	}
	k.add(&keptFile{key: key, received: now, size: size})
	return nil
}

// keep writes the reply down. In this process it is known also after an error.
func (k *kept) keep(id string, reply []byte) error {
	f := k.byKey[keyOf(id)]
	r, _, err := k.read(k.path(f.key))
	if err == nil {
		r.Reply = reply
		err = k.rewrite(f, r)
	}
	if err != nil {
		f.reply = k.short(reply) // the disk's fault isn't to fill memory
	}
	k.shrink()
	return err
}

func (k *kept) rewrite(f *keptFile, r record) error {
	size, err := k.write(f.key, r)
	if err != nil {
		return err
	}
	k.size += size - f.size
	f.size = size
	return nil
}

func (k *kept) write(key string, r record) (size int64, err error) {
	b, err := json.Marshal(r)
	if err != nil {
		return 0, err
	}
	return int64(len(b)), durable.WriteFileOn(k.tree, k.path(key), b, 0o600)
}

// forget removes what is too old, or too many with the one that comes. What the
// clock hasn't reached yet stays.
func (k *kept) forget(now time.Time) {
	n := 0
	for _, f := range k.order {
		if old := now.Sub(f.received) > keepFor; !old && len(k.order)-n < k.most {
			break
		}
		path := k.path(f.key)
		if f.damaged {
			path = strings.TrimSuffix(path, keptSuffix) + damagedSuffix
		}
		if err := k.tree.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			k.log.Error("forget an old command", "err", err)
		}
		delete(k.byKey, f.key)
		k.size -= f.size
		n++
	}
	k.order = slices.Delete(k.order, 0, n)
}

// shrink leaves out the results of the oldest while there is too much; that they
// were done stays known.
func (k *kept) shrink() {
	for _, f := range k.order {
		if k.size <= k.mostSize {
			return
		}
		if f.size <= largeRecord {
			continue
		}
		r, _, err := k.read(k.path(f.key))
		if err == nil {
			r.Reply = k.short(r.Reply)
			err = k.rewrite(f, r)
		}
		if err != nil {
			k.log.Error("leave out the result of an old command", "err", err)
			return
		}
	}
}

// short is a reply without its result.
func (k *kept) short(reply []byte) []byte {
	var r Reply
	if json.Unmarshal(reply, &r) != nil || r.Result == nil {
		return reply
	}
	r.Result = nil
	r.Code = cmp.Or(r.Code, ReplyGone)
	r.Error = cmp.Or(r.Error, "it was done; its result isn't kept any more: for another, give the command another id")
	return marshal(r)
}
