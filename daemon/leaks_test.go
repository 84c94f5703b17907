package daemon

import (
	"os"
	"runtime"
	"testing"

	"github.com/sightd/sightd/release"
)

// It isn't parallel to others, whose goroutines and files would be counted.
func TestSwapsLeaveNothingBehind(t *testing.T) {
	s := newStage(t, nil)
	number := 1
	swap := func(times int) {
		for range times {
			number++
			s.install(number)
			s.wait(number, release.Confirmed, "")
			s.goesOn(number)
		}
	}
	held := func() (goroutines, files int) {
		all, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skipf("open files can't be counted: %v", err)
		}
		return runtime.NumGoroutine(), len(all)
	}
	swap(3)
	goroutines, files := held()
	swap(20)
	// What closes in the background takes a moment, and some goroutines and connections
	// come and go: a leak would be at least one for each swap.
	eventually(t, "goroutines and files are as many as before", func() bool {
		g, f := held()
		return g < goroutines+10 && f < files+10
	})
	if _, _, open := s.backend.counted(); open != 1 {
		t.Errorf("%d engines are open, wanted the one that serves", open)
	}
}
