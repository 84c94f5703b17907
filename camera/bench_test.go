package camera

import (
	"context"
	"testing"

	"github.com/sightd/sightd/internal/testenv"
)

// What it costs to get a prepared frame of 224×224 from the worker: its copy into
// the lane, the wake-up, and the way back.
func BenchmarkTakeAndRelease(b *testing.B) {
	c, err := New(Options{Source: "test:noise", Preload: 8, Worker: testenv.Worker(b)})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	l, err := c.AddLane(Geometry{Width: 224, Height: 224, Resize: "stretch", Filter: "linear"}, 1)
	if err != nil {
		b.Fatal(err)
	}
	wake := make(chan struct{}, 1)
	l.Notify(wake)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	take := func() {
		for {
			if f, ok := l.Take(); ok {
				l.Release(f)
				return
			}
			<-wake
		}
	}
	take() // the frames are prepared
	b.ReportAllocs()
	for b.Loop() {
		take()
	}
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}
