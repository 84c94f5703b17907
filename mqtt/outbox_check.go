package mqtt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// checkFile says whether bbolt can open a file. bbolt 1.4 goes through a file's
// pages when it opens it, and panics in a goroutine of its own where something
// is wrong, which nobody can recover; 1.5 doesn't, but needs Go 1.25. So the
// same is looked at here first: that each page is what it says, that none belongs
// to two, and that keys grow. The format is bbolt's internal/common/page.go and
// meta.go; its numbers are in the machine's order, little-endian on all of ours.
func checkFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := lockShared(f); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() == 0 {
		return nil // bbolt makes it anew
	}
	m, ok := newestMeta(f)
	if !ok {
		return fmt.Errorf("%w: neither of its first two pages is right", errDamaged)
	}
	if m.pages < 4 || m.pages > uint64(info.Size())/m.pageSize {
		return fmt.Errorf("%w: it has %d bytes, wanted at least %d pages of %d", errDamaged, info.Size(), m.pages, m.pageSize)
	}
	c := checker{f: f, meta: m, taken: make([]bool, m.pages)}
	if m.freelist != noFreelist {
		if _, err := c.page(m.freelist, pageFreelist); err != nil {
			return err
		}
	}
	_, err = c.tree(m.root, nil, nil, 0)
	return err
}

// lockShared waits as long as bbolt does: whoever has the file open may be writing, and
// a child that is being started keeps its parent's locks for a moment. The lock goes with f.
func lockShared(f *os.File) error {
	for deadline := time.Now().Add(time.Second); ; time.Sleep(50 * time.Millisecond) {
		switch err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); {
		case err == nil:
			return nil
		case !errors.Is(err, unix.EWOULDBLOCK):
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		case time.Now().After(deadline):
			return fmt.Errorf("%s: %w", f.Name(), errInUse)
		}
	}
}

const (
	pageHeader   = 16
	metaSize     = 64
	metaMagic    = 0xED0CDAED
	metaVersion  = 2
	noFreelist   = ^uint64(0)
	pageBranch   = 0x01
	pageLeaf     = 0x02
	pageFreelist = 0x10
	bucketFlag   = 0x01
	maxPage      = 8 << 20 // with what overflows it: a batch and its neighbour, or the list of free pages
	maxDepth     = 16
)

type fileMeta struct{ pageSize, root, freelist, pages, tx uint64 }

// newestMeta reads the two pages that take turns in saying where all begins.
func newestMeta(f io.ReaderAt) (best fileMeta, ok bool) {
	le := binary.LittleEndian
	for i := range int64(2) {
		b := make([]byte, pageHeader+metaSize)
		if _, err := f.ReadAt(b, i*int64(os.Getpagesize())); err != nil {
			continue
		}
		b = b[pageHeader:]
		sum := fnv.New64a()
		_, _ = sum.Write(b[:metaSize-8])
		m := fileMeta{
			pageSize: uint64(le.Uint32(b[8:])), root: le.Uint64(b[16:]), freelist: le.Uint64(b[32:]),
			pages: le.Uint64(b[40:]), tx: le.Uint64(b[48:]),
		}
		if le.Uint32(b) == metaMagic && le.Uint32(b[4:]) == metaVersion && le.Uint64(b[56:]) == sum.Sum64() &&
			m.pageSize == uint64(os.Getpagesize()) && (!ok || m.tx > best.tx) {
			best, ok = m, true
		}
	}
	return best, ok
}

type checker struct {
	f     io.ReaderAt
	meta  fileMeta
	taken []bool // by page
}

// page reads a page that must be one of kinds, and what overflows it.
func (c *checker) page(id uint64, kinds uint16) ([]byte, error) {
	bad := func(what string) ([]byte, error) {
		return nil, fmt.Errorf("%w: page %d %s", errDamaged, id, what)
	}
	if id < 2 || id >= c.meta.pages {
		return bad("lies outside")
	}
	head := make([]byte, pageHeader)
	if _, err := c.f.ReadAt(head, int64(id*c.meta.pageSize)); err != nil {
		return nil, err
	}
	kind, more := binary.LittleEndian.Uint16(head[8:]), uint64(binary.LittleEndian.Uint32(head[12:]))
	switch {
	case binary.LittleEndian.Uint64(head) != id:
		return bad("says that it is another")
	case kind != pageBranch && kind != pageLeaf && kind != pageFreelist || kind&kinds == 0:
		return bad(fmt.Sprintf("is of kind %#x", kind))
	case more >= c.meta.pages-id || (more+1)*c.meta.pageSize > maxPage:
		return bad("is too long")
	}
	for i := id; i <= id+more; i++ {
		if c.taken[i] {
			return bad("belongs to two")
		}
		c.taken[i] = true
	}
	b := make([]byte, (more+1)*c.meta.pageSize)
	_, err := c.f.ReadAt(b, int64(id*c.meta.pageSize))
	return b, err
}

// tree checks what lies under a page, whose keys are at least least and below
// most, nil for any. It gives the last key.
func (c *checker) tree(id uint64, least, most []byte, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("%w: its pages lie %d deep", errDamaged, depth)
	}
	b, err := c.page(id, pageBranch|pageLeaf)
	if err != nil {
		return nil, err
	}
	return c.elements(b, id, least, most, depth)
}

// elements checks a page's elements.
func (c *checker) elements(b []byte, id uint64, least, most []byte, depth int) ([]byte, error) {
	le := binary.LittleEndian
	bad := func(i int, what string) ([]byte, error) {
		return nil, fmt.Errorf("%w: element %d of page %d %s", errDamaged, i, id, what)
	}
	branch := le.Uint16(b[8:]) == pageBranch
	n := int(le.Uint16(b[10:]))
	if pageHeader+16*n > len(b) || branch && n == 0 {
		return bad(n, "isn't there")
	}
	// at is an element's part, from the element's own place on.
	at := func(i int, pos, size uint64) []byte {
		from := uint64(pageHeader+16*i) + pos
		if pos < 16 || from > uint64(len(b)) || size > uint64(len(b))-from {
			return nil
		}
		return b[from : from+size]
	}
	keyOf := func(i int) []byte {
		e := b[pageHeader+16*i:]
		if branch {
			return at(i, uint64(le.Uint32(e)), uint64(le.Uint32(e[4:])))
		}
		return at(i, uint64(le.Uint32(e[4:])), uint64(le.Uint32(e[8:])))
	}
	last := least
	for i := range n {
		k := keyOf(i)
		if len(k) == 0 {
			return bad(i, "has no key")
		}
		if c := bytes.Compare(k, last); last != nil && (c < 0 || c == 0 && i > 0) || most != nil && bytes.Compare(k, most) >= 0 {
			return bad(i, "is out of order")
		}
		last = k
		e := b[pageHeader+16*i:]
		if branch {
			below := most
			if i+1 < n {
				if below = keyOf(i + 1); len(below) == 0 {
					return bad(i+1, "has no key")
				}
			}
			lastOf, err := c.tree(le.Uint64(e[8:]), k, below, depth+1)
			if err != nil {
				return nil, err
			}
			last = lastOf
			continue
		}
		value := at(i, uint64(le.Uint32(e[4:]))+uint64(len(k)), uint64(le.Uint32(e[12:])))
		if value == nil && le.Uint32(e[12:]) > 0 {
			return bad(i, "has no value")
		}
		if le.Uint32(e)&bucketFlag == 0 {
			continue
		}
		if err := c.bucket(value, depth); err != nil {
			return nil, err
		}
	}
	return last, nil
}

// bucket checks a bucket: its tree, or the small page that its value holds.
func (c *checker) bucket(value []byte, depth int) error {
	if len(value) < 16 {
		return fmt.Errorf("%w: a bucket has %d bytes", errDamaged, len(value))
	}
	if root := binary.LittleEndian.Uint64(value); root != 0 {
		_, err := c.tree(root, nil, nil, depth+1)
		return err
	}
	page := value[16:]
	if len(page) < pageHeader || binary.LittleEndian.Uint16(page[8:]) != pageLeaf {
		return fmt.Errorf("%w: a small bucket isn't one", errDamaged)
	}
	_, err := c.elements(page, 0, nil, nil, depth+1)
	return err
}
