package calibration

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sort"

	"golang.org/x/sync/errgroup"

	"github.com/sightd/sightd/camera"
)

// keepBytes bounds the frames that are kept in memory after they were read.
const keepBytes = 128 << 20

// maxDecoders bounds the workers that decode at the same time: each takes memory,
// and more than this few leave no processor to anything else.
const maxDecoders = 4

// Unreadable is a file that gave no image.
type Unreadable struct {
	Path   string
	Reason string
}

// frame is an image as the model takes it.
type frame struct {
	path   string
	index  int    // of the frame in its file
	hash   uint64 // of the content: what is chosen by it doesn't depend on the frames' order
	pixels []byte // packed 8-bit RGB
	kept   bool   // pixels stay as they are
}

func (f *frame) String() string {
	if f.index > 0 {
		return fmt.Sprintf("%s #%d", f.path, f.index)
	}
	return f.path
}

// frames are the decoded and scaled frames of files, to be gone through several
// times. As many as fit into keepBytes are decoded once, the others each time, so
// memory doesn't grow with their number, but for a few bytes each.
type frames struct {
	reels  []*reel
	hashes []uint64 // of all frames, sorted
}

// newFrames divides the files among decoders, for the machine's number of
// processors.
func newFrames(files []string, g camera.Geometry, worker string, processors int, log *slog.Logger) *frames {
	s := &frames{}
	n := max(1, min(processors, maxDecoders, len(files)/16))
	size := g.Width * g.Height * 3
	for i := range n {
		s.reels = append(s.reels, &reel{
			files: files[i*len(files)/n : (i+1)*len(files)/n], geometry: g, worker: worker, log: log,
			room: keepBytes / n / size,
		})
	}
	return s
}

// read decodes all frames once, and finds the files that give none.
func (s *frames) read(ctx context.Context, done func()) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, r := range s.reels {
		group.Go(func() error { return r.read(ctx, done) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, r := range s.reels {
		s.hashes = append(s.hashes, r.hashes...)
	}
	slices.Sort(s.hashes)
	return nil
}

// unreadable are the files, or frames of videos, that couldn't be read.
func (s *frames) unreadable() []Unreadable {
	var list []Unreadable
	for _, r := range s.reels {
		list = append(list, r.unreadable...)
	}
	return list
}

// count is how many frames there are.
func (s *frames) count() int { return len(s.hashes) }

// part is the hash up to which one in n of the different frames stand, and how
// many frames these are with their equals; 0 where there are too few.
func (s *frames) part(n int) (last uint64, count int) {
	different := slices.Compact(slices.Clone(s.hashes))
	if len(different) < n {
		return 0, 0
	}
	last = different[len(different)/n-1]
	return last, sort.Search(len(s.hashes), func(i int) bool { return s.hashes[i] > last })
}

// each calls visit for every frame that want, which may be nil, accepts, from
// several goroutines, told apart by their number. The pixels are visit's until it
// returns, those of kept frames for good. done, which may be nil, is called after
// each.
func (s *frames) each(ctx context.Context, goroutines int, want func(*frame) bool, done func(), visit func(worker int, f *frame) error) error {
	work := make(chan *frame, goroutines)
	// One buffer for each frame that can be under way bounds the memory.
	spare := make(chan []byte, 2*goroutines+len(s.reels))
	for range cap(spare) {
		spare <- nil
	}
	group, ctx := errgroup.WithContext(ctx)
	for n := range goroutines {
		group.Go(func() error {
			for f := range work {
				buffer := f.pixels // visit may put a copy in its place
				if err := visit(n, f); err != nil {
					return err
				}
				if done != nil {
					done()
				}
				if !f.kept {
					spare <- buffer
				}
			}
			return nil
		})
	}
	group.Go(func() error {
		defer close(work)
		producers, ctx := errgroup.WithContext(ctx)
		for _, r := range s.reels {
			producers.Go(func() error { return r.send(ctx, want, work, spare) })
		}
		return producers.Wait()
	})
	return group.Wait()
}

// sample takes as many of the frames as the limit allows, those with the lowest
// hashes, into memory, sorted by hash.
func (s *frames) sample(ctx context.Context, limit int) ([]*frame, error) {
	last := s.hashes[min(limit, s.count())-1]
	below, _ := slices.BinarySearch(s.hashes, last)
	room := limit - below // for frames with the last hash: a video can have many of them
	var list []*frame
	wanted := func(f *frame) bool { return f.hash <= last }
	err := s.each(ctx, 1, wanted, nil, func(_ int, f *frame) error {
		if f.hash == last {
			if room == 0 {
				return nil
			}
			room--
		}
		if !f.kept {
			f.pixels = slices.Clone(f.pixels)
		}
		list = append(list, f)
		return nil
	})
	slices.SortFunc(list, func(a, b *frame) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.path, b.path), a.index-b.index)
	})
	return list, err
}
