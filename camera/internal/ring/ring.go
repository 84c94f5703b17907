// Package ring is a lane of frames in memory that two processes share: the
// worker writes pictures into slots, the daemon reads them in place.
//
// # Memory
//
// A lane is one memfd, sealed against growing and shrinking, so that neither
// side can take memory away from under the other. Everything is in the
// machine's own byte order; offsets are in bytes.
//
//	0      header, 64 bytes
//	512    slot headers, 512 bytes each
//	…      pixels of slot 0, at the next page boundary
//	…      pixels of slot 1, one stride further; the stride is whole pages
//
//	header                          slot header
//	0   uint32  magic "ring"        0    uint32  state
//	4   uint32  version, 1          4    uint32  length of the error text
//	8   uint32  slots               8    uint64  number
//	12  uint32  width               16   uint64  seq
//	16  uint32  height              24   int64   captured, CLOCK_MONOTONIC ns
//	20  uint32  0                   32   int64   decoding, ns
//	24  uint64  offset of pixels    40   int64   scaling, ns
//	32  uint64  stride of a slot    48   uint32  file
//	                                52   uint32  index
//	                                56   uint32  width of the source
//	                                60   uint32  height of the source
//	                                64   448 B   error text, UTF-8
//
// Pixels are height × width × 3 bytes, packed RGB, top row first. A slot's
// number counts what was published on this lane, from 1, without gaps; its seq
// counts the camera's frames. A frame with an error text has no pixels: the
// file it stands for can't be read.
//
// # Protocol
//
// The state word is changed by compare-and-swap only:
//
//	free ──▶ writing ──▶ ready ──▶ claimed ──▶ free
//	            ▲──────────┘
//
// The writer owns a slot that is writing, the reader one that is claimed; the
// other fields and the pixels belong to the slot's owner. With NewestWins the
// writer takes back the oldest ready slot when none is free, so it never
// waits; without, it waits until the reader frees one. A lane of one slot more
// than claims and writer together always has a slot to write to that isn't the
// newest frame.
//
// A writer that dies leaves at most one slot writing. When its process is gone
// the reader calls Recover, and the next writer goes on after the number that
// Recover returns. Nothing that the reader finds in the memory is trusted: a
// frame whose fields make no sense is thrown away and counted.
package ring

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	magic   = 'r' | 'i'<<8 | 'n'<<16 | 'g'<<24
	version = 1

	headerSize = 512 // the header and the space behind it
	maxSlots   = 64
	maxSide    = 16384 // a lane's width or height
	maxSource  = 1 << 20
	// ErrorSize is how much of an error's text a slot holds.
	ErrorSize = 448
)

const (
	free uint32 = iota
	writing
	ready
	claimed
)

// Layout says how a lane's memory is divided. Both sides are told it and
// compute the same offsets; neither believes the other's header.
type Layout struct {
	Slots, Width, Height int
}

func (l Layout) check() error {
	if l.Slots < 3 || l.Slots > maxSlots {
		return fmt.Errorf("a lane has 3 to %d slots, not %d", maxSlots, l.Slots)
	}
	if l.Width < 1 || l.Width > maxSide || l.Height < 1 || l.Height > maxSide {
		return fmt.Errorf("a lane is 1×1 to %d×%d pixels, not %d×%d", maxSide, maxSide, l.Width, l.Height)
	}
	return nil
}

func pages(n int) int {
	p := os.Getpagesize()
	return (n + p - 1) / p * p
}

func (l Layout) pixels() int { return l.Width * l.Height * 3 }
func (l Layout) offset() int { return pages(headerSize + l.Slots*int(unsafe.Sizeof(slot{}))) }
func (l Layout) stride() int { return pages(l.pixels()) }
func (l Layout) size() int   { return l.offset() + l.Slots*l.stride() }

type header struct {
	magic, version, slots, width, height, _ uint32
	offset, stride                          uint64
}

type slot struct {
	state                   atomic.Uint32
	errLen                  uint32
	number                  atomic.Uint64
	seq                     uint64
	captured, decode, scale int64
	file, index             uint32
	width, height           uint32
	err                     [ErrorSize]byte
}

// Meta is what a slot says about its frame.
type Meta struct {
	Number        uint64 // counts the lane's frames from 1
	Seq           uint64 // counts the camera's frames
	Captured      int64  // CLOCK_MONOTONIC, ns
	DecodeNS      int64
	ScaleNS       int64
	File, Index   int // which file, and which of its frames
	Width, Height int // of the source
	Err           string
}

// Memory is a lane's memory mapped into this process.
type Memory struct {
	layout Layout
	data   []byte
}

// Create makes a lane's memory, all slots free, and returns it mapped together
// with the file to pass on, which the caller closes.
func Create(name string, l Layout) (*Memory, *os.File, error) {
	if err := l.check(); err != nil {
		return nil, nil, err
	}
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, nil, fmt.Errorf("create a lane's memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if err := unix.Ftruncate(fd, int64(l.size())); err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("make a lane's memory %d bytes large: %w", l.size(), err)
	}
	seals := unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("seal a lane's memory: %w", err)
	}
	m, err := mapFile(f, l)
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	*m.header() = header{
		magic: magic, version: version,
		slots: uint32(l.Slots), width: uint32(l.Width), height: uint32(l.Height),
		offset: uint64(l.offset()), stride: uint64(l.stride()),
	}
	return m, f, nil
}

// Open maps a lane's memory that another process made.
func Open(f *os.File, l Layout) (*Memory, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open a lane's memory: %w", err)
	}
	if info.Size() != int64(l.size()) {
		return nil, fmt.Errorf("open a lane's memory: it has %d bytes, %d slots of %d×%d need %d",
			info.Size(), l.Slots, l.Width, l.Height, l.size())
	}
	m, err := mapFile(f, l)
	if err != nil {
		return nil, err
	}
	h := *m.header()
	if h.magic != magic || h.version != version {
		m.Close()
		return nil, fmt.Errorf("open a lane's memory: magic %#x version %d, wanted %#x version %d: daemon and worker are of different releases",
			h.magic, h.version, uint32(magic), version)
	}
	return m, nil
}

func mapFile(f *os.File, l Layout) (*Memory, error) {
	data, err := unix.Mmap(int(f.Fd()), 0, l.size(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map a lane's memory of %d bytes: %w", l.size(), err)
	}
	return &Memory{layout: l, data: data}, nil
}

// Close unmaps the memory. Nobody may hold a slot's pixels any more.
func (m *Memory) Close() error {
	if m.data == nil {
		return nil
	}
	data := m.data
	m.data = nil
	return unix.Munmap(data)
}

// Slots is how many slots the lane has.
func (m *Memory) Slots() int { return m.layout.Slots }

// Pixels is the memory of slot i: height × width × 3 bytes, page-aligned.
func (m *Memory) Pixels(i int) []byte {
	at := m.layout.offset() + i*m.layout.stride()
	return m.data[at : at+m.layout.pixels() : at+m.layout.pixels()]
}

func (m *Memory) header() *header { return (*header)(unsafe.Pointer(&m.data[0])) }

func (m *Memory) slot(i int) *slot {
	return (*slot)(unsafe.Pointer(&m.data[headerSize+i*int(unsafe.Sizeof(slot{}))]))
}

// Now is the time that Meta.Captured is read from: CLOCK_MONOTONIC, in ns.
func Now() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0 // every kernel that runs Go has this clock
	}
	return t.Nano()
}
