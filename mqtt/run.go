package mqtt

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"
)

// Run keeps a session with one of the brokers until ctx ends, then says `offline` and
// leaves within about two seconds. It returns an error only when it is called
// while it runs.
//
// The brokers have their turn in the order of the list, beginning with the one
// that worked last: a broker is left when there is no session with it, or only a
// short one, and not for one that stands before it.
func (c *Client) Run(ctx context.Context) error {
	c.mu.Lock()
	if c.running {
		c.mu.Unlock()
		return errors.New("mqtt client: Run is running already")
	}
	c.running = true
	c.status.Since = time.Now()
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.running = false
		c.mu.Unlock()
	}()

	defer c.commands.start(ctx)()
	defer c.looks(ctx)()
	news := reporter{log: c.log, repeat: c.timing.repeat}
	sessions, turn := 0, 0
	// Devices that get their power back at one moment don't connect at one.
	wait(ctx, time.Duration(rand.Float64()*float64(c.timing.first)))
	for attempt := 0; ctx.Err() == nil; attempt++ {
		t := c.targets[turn]
		c.setStatus(func(s *Status) { s.Broker = t.String() })
		var up time.Time
		var at string
		err := c.session(ctx, t, func(address string) {
			up, at = time.Now(), address
			sessions++
			c.setStatus(func(s *Status) {
				s.Connected, s.Since, s.Error, s.Address = true, up, "", address
				s.Reconnects = uint64(sessions - 1)
			})
			news.connected(up, t, address)
		})
		now := time.Now()
		if ctx.Err() != nil {
			break
		}
		lasted := time.Duration(0)
		if !up.IsZero() {
			lasted = now.Sub(up)
		}
		if lasted >= c.timing.stable {
			attempt = 0
			c.suspicion.quiet()
		} else {
			turn = (turn + 1) % len(c.targets)
			if at != "" {
				c.dialer.failed(at)
			}
		}
		why := explain(t, c.id, err)
		// All brokers have their turn before the pauses grow.
		pause := backoff(attempt/len(c.targets), c.timing.least, c.timing.most, rand.Float64())
		if c.kicks.failed(err, lasted, c.timing.kicked, c.timing.alone) {
			why = duplicate(c.id)
			c.warn(why.kind, why.words)
			pause = backoff(c.kicks.inRow-kicksSay, c.timing.leastDuplicate, c.timing.mostDuplicate, rand.Float64())
		}
		c.setStatus(func(s *Status) {
			if s.Connected {
				s.Connected, s.Since, s.Address = false, now, ""
			}
			s.Error = why.words
			s.Failures++
		})
		news.failed(now, t, why)
		wait(ctx, pause)
	}
	c.setStatus(func(s *Status) {
		s.Connected, s.Since, s.Error, s.Address = false, time.Now(), "stopped", ""
	})
	return nil
}

// wait lasts for d, or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	pause := time.NewTimer(d)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
	}
}

// looks keeps the warnings about files up to date while a session lasts, until
// stop is called.
func (c *Client) looks(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			c.look()
			wait(ctx, c.timing.look)
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// setStatus changes the status and tells the hook, if it says something new.
func (c *Client) setStatus(change func(*Status)) {
	c.mu.Lock()
	before := c.status
	change(&c.status)
	after := c.present()
	c.mu.Unlock()
	if c.opts.OnStatus != nil && (before.Connected != after.Connected || before.Error != after.Error) {
		c.opts.OnStatus(after)
	}
}

// A reporter logs what changes, not every attempt.
type reporter struct {
	log    *slog.Logger
	repeat time.Duration

	kind     string    // of the last failure logged since there was a connection
	last     time.Time // when it was logged
	since    time.Time // of the first failure
	failures int       // since there was a connection
}

func (r *reporter) connected(now time.Time, t target, address string) {
	where := []any{"broker", t}
	if address != t.host {
		where = append(where, "address", address)
	}
	log := r.log.With(where...)
	if r.failures == 0 {
		log.Info("connected to the broker")
	} else {
		log.Info("connected to the broker again", "failures", r.failures, "away", now.Sub(r.since).Round(time.Millisecond))
	}
	r.kind, r.failures = "", 0
}

func (r *reporter) failed(now time.Time, t target, why reason) {
	if r.failures == 0 {
		r.since = now
	}
	r.failures++
	if why.kind == r.kind && now.Sub(r.last) < r.repeat {
		return
	}
	r.kind, r.last = why.kind, now
	r.log.Warn("no connection to the broker; events are kept, trying again", "broker", t, "err", why.words, "failures", r.failures)
}
