package trt

import (
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	// pollEvery is how often a builder is asked how far it is and what it logged.
	pollEvery = 50 * time.Millisecond
	// progressEvery bounds how often the same phase is told of.
	progressEvery = 250 * time.Millisecond
	// aliveEvery is how often it is told of though nothing changed.
	aliveEvery = time.Second
)

// follower tells the parent how far the builder is, and has it cancelled.
type follower struct {
	out        *speaker
	begin      time.Time
	stop, gone chan struct{}
	signals    chan os.Signal

	last   progressLine
	lastAt time.Time
}

func follow(out *speaker, begin time.Time) *follower {
	f := &follower{
		out: out, begin: begin,
		stop: make(chan struct{}), gone: make(chan struct{}), signals: make(chan os.Signal, 1),
	}
	signal.Notify(f.signals, syscall.SIGTERM)
	go func() {
		defer close(f.gone)
		f.run()
	}()
	return f
}

func (f *follower) run() {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		select {
		case <-f.stop:
			f.drain()
			return
		case <-f.signals:
			if !callCancel() {
				// The builder can't be stopped, so the process is.
				os.Exit(f.out.end(&Error{Cancelled, "build", "cancelled"}, "build"))
			}
		case <-ticker.C:
			f.drain()
		}
	}
}

// drain passes on what TensorRT logged and how far it is.
func (f *follower) drain() {
	TakeLog(func(severity int, line string) {
		f.out.say(said{Log: &logLine{severity, line}})
	})
	var p progressLine
	p.Phase, p.Step, p.Steps = callProgress()
	if p.Phase == "" {
		return
	}
	now := time.Now()
	since := now.Sub(f.lastAt)
	known := f.last
	known.Seconds = 0
	if p.Phase == known.Phase && (since < progressEvery || p == known && since < aliveEvery) {
		return
	}
	p.Seconds = now.Sub(f.begin).Seconds()
	f.last, f.lastAt = p, now
	f.out.say(said{Progress: &p})
}

func (f *follower) end() {
	signal.Stop(f.signals)
	close(f.stop)
	<-f.gone
}
