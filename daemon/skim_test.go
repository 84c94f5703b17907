package daemon

import (
	"context"
	"testing"

	"github.com/sightd/sightd/camera"
	"github.com/sightd/sightd/internal/testenv"
)

// eachLanes are a running camera, every frame of which counts, and two sets with a lane
// of it each: one that serves and one that is proven.
func eachLanes(t *testing.T) (serves, proven *laneSet) {
	t.Helper()
	cam, err := camera.New(camera.Options{Name: "noise", Source: "test:noise?each=true", Worker: testenv.Worker(t), Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	var sets []*laneSet
	for range 2 {
		lane, err := cam.AddLane(camera.Geometry{Width: 8, Height: 8, Resize: "stretch", Filter: "nearest"}, 2)
		if err != nil {
			t.Fatal(err)
		}
		wake := make(chan struct{}, 1)
		lane.Notify(wake)
		sets = append(sets, &laneSet{streams: []*stream{{lane: lane}}, wake: wake})
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- cam.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		if err := cam.Close(); err != nil {
			t.Error(err)
		}
	})
	return sets[0], sets[1]
}

// takeNext waits for the set's next frame and lets go of it.
func takeNext(t *testing.T, s *laneSet) uint64 {
	t.Helper()
	var seq uint64
	eventually(t, "a frame", func() bool {
		f, ok := s.streams[0].lane.Take()
		if ok {
			seq = f.Seq
			s.streams[0].lane.Release(f)
		}
		return ok
	})
	return seq
}

func TestASetThatIsProvenDoesNotKeepWhatServesWaiting(t *testing.T) {
	t.Parallel()
	serves, proven := eachLanes(t)
	proven.skim()
	var last uint64
	for range 50 { // far more than a lane holds
		if seq := takeNext(t, serves); seq != last+1 {
			t.Fatalf("frame %d after %d", seq, last)
		} else {
			last = seq
		}
	}
	proven.collect()
	first := takeNext(t, proven)
	for last+1 < first { // what was let go of is with what serves
		if seq := takeNext(t, serves); seq != last+1 {
			t.Fatalf("frame %d after %d", seq, last)
		} else {
			last = seq
		}
	}
	if first > last+1 {
		t.Errorf("the set that takes over begins with frame %d, the one before ended with %d", first, last)
	}
	proven.collect() // again does nothing
}
