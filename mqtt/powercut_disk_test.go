package mqtt

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// A disk is a file system in user space, in memory, of one directory, that notes
// every change and every sync in the order in which they come. From that order a
// [platter] makes what a power cut at any moment could leave.
//
// It must not be used by the process that serves it: a page fault in a memory map
// of one of its files would wait for a goroutine that waits for the faulting one.
type disk struct {
	mu    sync.Mutex
	done  []change
	files int
	ill   func() syscall.Errno // asked before writes and by syncs, which are done all the same; nil: healthy
}

// trouble is what is wrong at the moment.
func (d *disk) trouble() syscall.Errno {
	if d.ill == nil {
		return 0
	}
	return d.ill()
}

// A change is one thing that happened to a disk.
type change struct {
	kind changeKind
	file int    // for named, written, resized and synced; -1: no one's
	name string // for named, renamed and removed
	to   string // for renamed
	at   int64  // for written; the size for resized
	data []byte // for written; nobody changes it
}

type changeKind int

const (
	written changeKind = iota
	resized
	synced
	named
	renamed
	removed
	dirSynced
)

func (d *disk) note(c change) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.done = append(d.done, c)
}

// changes are those up to now.
func (d *disk) changes() []change {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.done)
}

// mount makes d be the directory dir until the test ends.
func (d *disk) mount(t *testing.T, dir string) {
	t.Helper()
	server, err := fusefs.Mount(dir, &diskDir{disk: d}, &fusefs.Options{MountOptions: fuse.MountOptions{DirectMountStrict: true}})
	if err != nil {
		t.Skipf("no FUSE to be had here: %v", err)
	}
	t.Cleanup(func() {
		if err := server.Unmount(); err != nil {
			t.Error(err)
		}
		server.Wait()
	})
}

type diskDir struct {
	fusefs.Inode
	disk *disk
}

type diskFile struct {
	fusefs.Inode
	disk *disk
	id   int
	mu   sync.Mutex
	data []byte
}

var (
	_ fusefs.NodeCreater   = (*diskDir)(nil)
	_ fusefs.NodeRenamer   = (*diskDir)(nil)
	_ fusefs.NodeUnlinker  = (*diskDir)(nil)
	_ fusefs.NodeFsyncer   = (*diskDir)(nil)
	_ fusefs.NodeOpener    = (*diskFile)(nil)
	_ fusefs.NodeReader    = (*diskFile)(nil)
	_ fusefs.NodeWriter    = (*diskFile)(nil)
	_ fusefs.NodeGetattrer = (*diskFile)(nil)
	_ fusefs.NodeSetattrer = (*diskFile)(nil)
	_ fusefs.NodeFsyncer   = (*diskFile)(nil)
)

func (d *diskDir) Create(ctx context.Context, name string, _, _ uint32, _ *fuse.EntryOut) (*fusefs.Inode, fusefs.FileHandle, uint32, syscall.Errno) {
	d.disk.mu.Lock()
	f := &diskFile{disk: d.disk, id: d.disk.files}
	d.disk.files++
	d.disk.done = append(d.disk.done, change{kind: named, file: f.id, name: name})
	d.disk.mu.Unlock()
	node := d.NewPersistentInode(ctx, f, fusefs.StableAttr{Mode: syscall.S_IFREG})
	return node, nil, 0, 0
}

func (d *diskDir) Rename(_ context.Context, name string, _ fusefs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	if flags != 0 {
		return syscall.EINVAL
	}
	d.disk.note(change{kind: renamed, file: -1, name: name, to: newName})
	return 0
}

func (d *diskDir) Unlink(_ context.Context, name string) syscall.Errno {
	d.disk.note(change{kind: removed, file: -1, name: name})
	return 0
}

func (d *diskDir) Fsync(context.Context, fusefs.FileHandle, uint32) syscall.Errno {
	d.disk.note(change{kind: dirSynced, file: -1})
	return d.disk.trouble()
}

func (f *diskFile) Open(context.Context, uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_KEEP_CACHE, 0
}

func (f *diskFile) Read(_ context.Context, _ fusefs.FileHandle, b []byte, at int64) (fuse.ReadResult, syscall.Errno) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at = min(at, int64(len(f.data)))
	return fuse.ReadResultData(b[:copy(b, f.data[at:])]), 0
}

func (f *diskFile) Write(_ context.Context, _ fusefs.FileHandle, b []byte, at int64) (uint32, syscall.Errno) {
	if e := f.disk.trouble(); e != 0 {
		return 0, e
	}
	b = bytes.Clone(b)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.data = splice(f.data, b, at)
	f.disk.note(change{kind: written, file: f.id, at: at, data: b})
	return uint32(len(b)), 0
}

func (f *diskFile) Getattr(_ context.Context, _ fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	f.mu.Lock()
	defer f.mu.Unlock()
	out.Mode, out.Size = syscall.S_IFREG|0o600, uint64(len(f.data))
	return 0
}

func (f *diskFile) Setattr(ctx context.Context, h fusefs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if size, ok := in.GetSize(); ok {
		f.mu.Lock()
		if int64(size) < int64(len(f.data)) {
			f.mu.Unlock()
			return syscall.ENOTSUP // platter doesn't know it, and nobody needs it
		}
		f.data = splice(f.data, nil, int64(size))
		f.disk.note(change{kind: resized, file: f.id, at: int64(size)})
		f.mu.Unlock()
	}
	return f.Getattr(ctx, h, out)
}

func (f *diskFile) Fsync(context.Context, fusefs.FileHandle, uint32) syscall.Errno {
	f.disk.note(change{kind: synced, file: f.id})
	return f.disk.trouble() // what was written may be there all the same
}

// splice puts b at a place in data, with zeros where there was nothing before.
func splice(data, b []byte, at int64) []byte {
	if need := int(at) + len(b); need > len(data) {
		data = append(data, make([]byte, need-len(data))...)
	}
	copy(data[at:], b)
	return data
}

// A platter is what of a disk's changes survives. What was synced does. Of what
// was written since, each page of 4 KiB is as it was at any moment since the last
// sync, whatever the others are; or torn, so that each of its sectors is. A file
// is as long as it was at any moment since. Names that weren't synced are there up
// to any moment since, in the order in which they changed, as journals have it.
type platter struct {
	files map[int]*platterFile
	names map[string]int // synced
	since []change       // of names
}

type platterFile struct {
	data  []byte   // synced
	since []change // written and resized
}

const (
	diskPage   = 4096
	diskSector = 512
)

func newPlatter() *platter { return &platter{files: map[int]*platterFile{}, names: map[string]int{}} }

func (p *platter) apply(c change) {
	switch c.kind {
	case written, resized:
		p.files[c.file].since = append(p.files[c.file].since, c)
	case synced:
		f := p.files[c.file]
		for _, c := range f.since {
			f.data = splice(f.data, c.data, c.at)
		}
		f.since = nil
	case named:
		p.files[c.file] = &platterFile{}
		p.since = append(p.since, c)
	case renamed, removed:
		p.since = append(p.since, c)
	case dirSynced:
		rename(p.names, p.since)
		p.since = nil
	}
}

func rename(names map[string]int, changes []change) {
	for _, c := range changes {
		switch c.kind {
		case named:
			names[c.name] = c.file
		case renamed:
			names[c.to] = names[c.name]
			delete(names, c.name)
		case removed:
			delete(names, c.name)
		}
	}
}

// pending says how many outcomes a power cut could have, roughly: 0 is one.
func (p *platter) pending() (n int) {
	for _, f := range p.files {
		n += len(f.since)
	}
	return n + len(p.since)
}

// cut gives the files that a power cut could leave.
func (p *platter) cut(random *rand.Rand) map[string][]byte {
	names := maps.Clone(p.names)
	rename(names, p.since[:random.IntN(len(p.since)+1)])
	image := map[string][]byte{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		image[name] = p.files[names[name]].cut(random)
	}
	return image
}

func (f *platterFile) cut(random *rand.Rand) []byte {
	sizes := []int{len(f.data)}
	versions := map[int64][][]byte{} // by page, oldest first
	for _, c := range f.since {
		sizes = append(sizes, max(sizes[len(sizes)-1], int(c.at)+len(c.data)))
		for page := c.at / diskPage; page*diskPage < c.at+int64(len(c.data)); page++ {
			from := page * diskPage
			all := versions[page]
			if all == nil {
				before := make([]byte, diskPage)
				copy(before, f.data[min(from, int64(len(f.data))):])
				all = [][]byte{before}
			}
			next := bytes.Clone(all[len(all)-1])
			if c.at > from {
				copy(next[c.at-from:], c.data)
			} else {
				copy(next, c.data[from-c.at:])
			}
			versions[page] = append(all, next)
		}
	}
	data := bytes.Clone(f.data)
	for _, page := range slices.Sorted(maps.Keys(versions)) {
		all := versions[page]
		mixed := bytes.Clone(all[random.IntN(len(all))])
		if random.IntN(3) == 0 {
			for s := 0; s < diskPage; s += diskSector {
				copy(mixed[s:s+diskSector], all[random.IntN(len(all))][s:])
			}
		}
		data = splice(data, mixed, page*diskPage)
	}
	size := sizes[random.IntN(len(sizes))]
	return splice(data, nil, int64(size))[:size]
}

// The double itself: what was synced is there, and what wasn't comes in parts.
func TestThePlatterLosesOnlyWhatWasNotSynced(t *testing.T) {
	t.Parallel()
	p := newPlatter()
	a, b := bytes.Repeat([]byte("a"), 3*diskPage), bytes.Repeat([]byte("b"), 2*diskPage)
	for _, c := range []change{
		{kind: named, name: "x"},
		{kind: written, data: a},
		{kind: synced},
		{kind: dirSynced, file: -1},
		{kind: written, at: diskPage, data: b},
		{kind: renamed, name: "x", to: "y"},
	} {
		p.apply(c)
	}
	seen := map[string]bool{}
	for seed := range uint64(200) {
		for name, data := range p.cut(rand.New(rand.NewPCG(seed, 0))) {
			if len(data) != len(a) || !bytes.Equal(data[:diskPage], a[:diskPage]) {
				t.Fatalf("%d bytes of %.1q…, want the first page as it was synced", len(data), data)
			}
			kind := func(page []byte) string {
				switch bytes.Count(page, []byte("b")) {
				case 0:
					return "old"
				case diskPage:
					return "new"
				}
				return "torn"
			}
			seen[fmt.Sprint(name, " ", kind(data[diskPage:2*diskPage]), " ", kind(data[2*diskPage:]))] = true
		}
	}
	if len(seen) != 2*3*3 {
		t.Errorf("%d outcomes, want 18: %v", len(seen), slices.Sorted(maps.Keys(seen)))
	}
}
