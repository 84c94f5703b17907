package release

import (
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// What a release leaves free on the state directory's disk, so that the outbox,
// engines and notes of what becomes of releases go on: the larger of two, and of a
// small disk a quarter at most.
const (
	reserveBytes = 64 << 20
	reservePart  = 20 // one in so many bytes
	reserveMost  = 4  // likewise
)

// maxStaging bounds what is on its way into a store at a time.
const maxStaging = 2 * maxUnpacked

// NoRoom is the error of a release for which the disk has no room. It tells nothing
// of the release, and reads the same until something other than the free room
// changes.
type NoRoom struct {
	Dir           string // the state directory
	Need, Reserve int64  // bytes of the release, and kept free
}

func (e *NoRoom) Error() string {
	return fmt.Sprintf("the release takes %s below %s, where %s are kept free for the rest: %v; make room there, or set state_dir to a directory on a larger disk",
		size(e.Need), e.Dir, size(e.Reserve), unix.ENOSPC)
}

// Unwrap makes it an error of a full disk.
func (e *NoRoom) Unwrap() error { return unix.ENOSPC }

// errStaging says that too much is on its way at once.
var errStaging = fmt.Errorf("more than %d GiB of releases would be on their way into the store at once: wait until one of them is there", maxStaging>>30)

// claim is room in staging that was found free, until end. What of it is written
// already counts twice against other claims: these wait rather than fill the disk.
type claim struct {
	s *Store
	n int64
}

// claim claims room for a release of n bytes, or says why there is none.
func (s *Store) claim(n int64) (*claim, error) {
	if err := s.makeStaging(); err != nil {
		return nil, err
	}
	c := &claim{s: s}
	return c, c.grow(n)
}

// grow claims n bytes more.
func (c *claim) grow(n int64) error {
	s := c.s
	s.claims.mu.Lock()
	defer s.claims.mu.Unlock()
	free, total, err := s.disk()
	if err != nil {
		return fmt.Errorf("see how much room is left below %s: %w", s.dir, err)
	}
	if n > maxStaging-s.claims.n {
		return errStaging
	}
	reserve := min(max(reserveBytes, total/reservePart), total/reserveMost)
	if free-reserve < s.claims.n+n {
		return &NoRoom{Dir: s.dir, Need: c.n + n, Reserve: reserve}
	}
	c.n += n
	s.claims.n += n
	return nil
}

// end gives the room back. It may be called twice, and of no claim.
func (c *claim) end() {
	if c == nil {
		return
	}
	c.s.claims.mu.Lock()
	defer c.s.claims.mu.Unlock()
	c.s.claims.n -= c.n
	c.n = 0
}

// disk is how many bytes are free to the daemon on the state directory's file
// system, and how many it has.
func (s *Store) disk() (free, total int64, err error) {
	if s.statfs == nil {
		s.statfs = unix.Statfs
	}
	var st unix.Statfs_t
	for {
		err = s.statfs(s.dir, &st)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	bytes := func(blocks uint64) int64 {
		size := uint64(max(st.Bsize, 1))
		return int64(min(blocks, math.MaxInt64/size) * size)
	}
	return bytes(st.Bavail), bytes(st.Blocks), err
}

// size is a number of bytes for people.
func size(n int64) string {
	switch {
	case n >= 10<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%d KiB", (n+1023)>>10)
}

// bytes are those of the manifest's files.
func (m *Manifest) bytes() int64 {
	var all int64
	for _, f := range m.Files {
		all += f.Size
	}
	return all
}
